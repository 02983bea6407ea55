//! A statement for spreadsheets: a row a lease.

use super::shown::Shown;
use crate::units::Timestamp;

const HEADINGS: &str = "lease,name,host,image,granted,ready,stopped,settled,reason,cpu_millicores,memory_mib,disk_gib,\
    receipts,receipted_seconds,billed_seconds,because,metered,setup,total,charged,fee,earned,credited,currency";

impl Shown {
    /// Rows with headings, lines ended as RFC 4180 has it; money in units of the currency.
    pub fn csv(&self) -> String {
        let currency = self.head.as_ref().map_or("", |head| head.currency.as_str());
        let mut out = format!("{HEADINGS}\r\n");
        for lease in &self.leases {
            let (charge, seen, has) = (&lease.charge, &lease.seen, lease.terms.resources);
            let when = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
            let cells = [
                charge.lease.to_string(),
                cell(&seen.name),
                cell(lease.host(self.head.as_ref())),
                cell(&seen.image),
                lease.terms.granted_at.to_string(),
                when(seen.ready_at),
                seen.stopped_at.to_string(),
                seen.settled_at.to_string(),
                seen.reason.to_string(),
                has.cpu.0.to_string(),
                has.memory.0.to_string(),
                has.disk.0.to_string(),
                charge.receipts.to_string(),
                charge.receipted_seconds.0.to_string(),
                charge.billed_seconds.0.to_string(),
                charge.because.word().into(),
                charge.metered.to_string(),
                charge.setup.to_string(),
                charge.total.to_string(),
                charge.charged.to_string(),
                charge.fee.to_string(),
                charge.earned.to_string(),
                lease.credited().to_string(),
                cell(currency),
            ];
            out += &cells.join(",");
            out += "\r\n";
        }
        out
    }
}

/// A text as one cell that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_string() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_is_text_and_one_cell() {
        let cells =
            [cell("box"), cell("a,b"), cell("say \"hi\""), cell("=1+1"), cell("@SUM(A1),2"), cell("two\nlines")];
        let wanted = ["box", "\"a,b\"", "\"say \"\"hi\"\"\"", "'=1+1", "\"'@SUM(A1),2\"", "\"two\nlines\""];
        assert_eq!(cells, wanted);
    }
}
