//! A statement for printing: one page of HTML without scripts, with the arithmetic of every lease.

use super::record::{Head, Line};
use super::shown::{LeaseShown, Shown};
use crate::billing::{PARTS_A_MICRO, round_half_even};
use crate::units::{Micros, MicrosPerHour, Millicores, Timestamp};
use std::fmt::{self, Display, Write};

const STYLE: &str = "body{font:11pt/1.4 sans-serif;max-width:48em;margin:2em auto;color:#111}\
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.6em 0 .3em}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.15em .6em .15em 0;border-bottom:1px solid #ddd;vertical-align:top}\
.n{text-align:right;font-variant-numeric:tabular-nums;padding-right:0}.sum td{border-top:1px solid #111;font-weight:bold}\
.small{font-size:.8em;color:#444;overflow-wrap:anywhere}section{break-inside:avoid}@page{margin:18mm}";

impl Shown {
    /// The page. Whatever people wrote is escaped.
    pub fn html(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let Some(head) = &self.head else { return Ok(()) };
        let title = format!("Statement of {}, {}", Escaped(&head.name), head.side);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n\
             <p>Leases settled from {} to before {}. Amounts in {}. Written {}.</p>\n",
            head.from,
            head.until,
            Escaped(&head.currency),
            head.made_at
        )?;
        self.overview(out, head)?;
        self.leases.iter().try_for_each(|lease| write_lease(out, head, lease))?;
        for change in &head.keys {
            let signed = self.leases.iter().filter(|lease| lease.signed_by == change.key).count();
            let what = "An earlier key of the market";
            writeln!(
                out,
                "<p class=\"small\">{what}, {}, signed the terms of {signed} of these leases.</p>",
                change.key
            )?;
        }
        writeln!(
            out,
            "<p class=\"small\">Account {}. Signed by the market with the key {}. <code>sublet verify</code> recomputes \
             every amount from what was signed.</p>\n</body></html>",
            head.account, head.market
        )
    }

    fn overview(&self, out: &mut String, head: &Head) -> fmt::Result {
        out.push_str("<table>\n<tr><th>lease</th><th>host</th><th>ended</th><th class=\"n\">seconds</th><th class=\"n\">charged</th><th class=\"n\">credited</th></tr>\n");
        for lease in &self.leases {
            writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                Escaped(&lease.seen.name),
                Escaped(lease.host(Some(head))),
                lease.seen.reason,
                lease.charge.billed_seconds.0,
                lease.charge.charged,
                lease.credited()
            )?;
        }
        let Some(closing) = &self.closing else { return out.write_str("</table>\n") };
        let rows = [
            ("fees of the operator", closing.fees),
            ("earned by lenders", closing.earned),
            (
                match head.side {
                    super::Side::Client => "to pay",
                    super::Side::Lender => "earned",
                    super::Side::Operator => "kept",
                },
                closing.amount,
            ),
        ];
        for (words, micros) in rows {
            writeln!(
                out,
                "<tr class=\"sum\"><td colspan=\"4\">{words}</td><td class=\"n\">{micros}</td><td></td></tr>"
            )?;
        }
        out.write_str("</table>\n")
    }
}

fn write_lease(out: &mut String, head: &Head, lease: &LeaseShown) -> fmt::Result {
    let (charge, seen) = (&lease.charge, &lease.seen);
    write!(
        out,
        "<section>\n<h2>{}</h2>\n<p>{} on {}, {}, {} vcpus. {}<br><span class=\"small\">{}</span></p>\n<p>{}</p>\n",
        Escaped(&seen.name),
        Escaped(&seen.image),
        Escaped(lease.host(Some(head))),
        lease.terms.resources,
        lease.terms.vcpus,
        Escaped(seen.reason.explanation()),
        charge.lease,
        timeline(lease)
    )?;
    writeln!(
        out,
        "<p>{} receipts over {} s; billed are {} s: {}.</p>",
        charge.receipts,
        charge.receipted_seconds.0,
        charge.billed_seconds.0,
        charge.because.words()
    )?;
    out.push_str("<table>\n");
    for line in charge.segments.iter().flat_map(|segment| &segment.lines) {
        writeln!(out, "<tr><td>{}</td><td class=\"n\">{}</td></tr>", arithmetic(line), micros_of(line))?;
    }
    let rows = [
        ("set-up", charge.setup),
        ("total, rounded once", charge.total),
        ("of that held, and charged", charge.charged),
    ];
    for (words, micros) in rows {
        writeln!(out, "<tr><td>{words}</td><td class=\"n\">{micros}</td></tr>")?;
    }
    writeln!(out, "<tr><td>fee of the operator</td><td class=\"n\">{}</td></tr>", charge.fee)?;
    for credit in &lease.credits {
        let (number, note) = (credit.number, Escaped(&credit.note));
        writeln!(out, "<tr><td>credit {number}: {note}</td><td class=\"n\">-{}</td></tr>", credit.micros)?;
    }
    out.write_str("</table>\n</section>\n")
}

fn timeline(lease: &LeaseShown) -> String {
    let seen = &lease.seen;
    let steps: [(&str, Option<Timestamp>); 7] = [
        ("granted", Some(lease.terms.granted_at)),
        ("image there", seen.fetched_at),
        ("started", seen.booted_at),
        ("ready", seen.ready_at),
        ("first contact", seen.contact_at),
        ("stopped", Some(seen.stopped_at)),
        ("gone and wiped", seen.ended_at),
    ];
    let told: Vec<String> = steps.iter().filter_map(|(word, at)| at.map(|at| format!("{word} {at}"))).collect();
    told.join(" &rarr; ")
}

/// `cpu: 1.5 x 0.0072/h x 100 s`.
fn arithmetic(line: &Line) -> String {
    let amount = match line.what.as_str() {
        "cpu" => format!("{} cores", Millicores(line.amount)),
        "memory" => format!("{} MiB of", line.amount),
        "disk" => format!("{} GiB of", line.amount),
        _ => line.amount.to_string(),
    };
    let unit = if matches!(line.what.as_str(), "memory" | "disk") { " a GiB" } else { "" };
    format!("{}: {amount} x {}{unit} x {} s", Escaped(&line.what), MicrosPerHour(line.price), line.seconds.0)
}

/// For reading: a line is exact only in its parts.
fn micros_of(line: &Line) -> Micros {
    Micros(round_half_even(line.parts.parse().unwrap_or(0), PARTS_A_MICRO))
}

/// Text in HTML: nothing of it is markup.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Nothing that could move the cursor, or turn the direction of what follows.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                f.write_char('\u{fffd}')
            }
            c => f.write_char(c),
        })
    }
}
