//! The nearest deal, where nothing fits: what each reason leaves out alone, and what would do.

use crate::api::Market;
use crate::failure::{Exit, Failure};
use crate::output;
use sublet_model::requirements::Requirements;
use sublet_wire::api::{NearestAnswer, NearestRequest, UnfitCount};
use sublet_wire::client::ClientError;
use sublet_wire::problem::Kind;

/// As it is said. What would do is written as clauses, ready to be typed. `unfit` is the first
/// reason of each partition, for where no reason alone leaves one out.
pub fn lines(nearest: &NearestAnswer, unfit: &[UnfitCount]) -> Vec<String> {
    if nearest.lent == 0 {
        return vec!["nothing fits: nobody lends a partition at the moment".into()];
    }
    let mut lines = vec![format!("nothing fits of the {} partitions that are lent", nearest.lent)];
    if !nearest.alone.is_empty() {
        lines.push("left out by one reason alone:".into());
        lines.extend(nearest.alone.iter().map(|count| format!("  {}", output::unfit_line(count))));
    }
    if nearest.alone.is_empty() && nearest.changes.is_empty() && !unfit.is_empty() {
        lines.push("each is left out by more than one reason; the first of them:".into());
        lines.extend(unfit.iter().map(|count| format!("  {}", output::unfit_line(count))));
    }
    lines.extend(nearest.free_at.map(|at| format!("one that fits comes free at {at} at the latest")));
    if !nearest.changes.is_empty() {
        lines.push("one change is enough, any of these:".into());
    }
    lines.extend(nearest.changes.iter().map(|change| match change.to.as_str() {
        "" => format!("  leave out {}", change.from),
        to => format!("  {to}, not {}", change.from),
    }));
    lines
}

/// A refusal of this attempt; where nothing fits, with the nearest deal.
pub async fn refused(market: &Market, asked: &Requirements, error: ClientError, what: &'static str) -> anyhow::Error {
    // Of several at once, each may fit alone: then no one change of one clause is the answer.
    if error.kind() != Some(Kind::NoMatch) || asked.count.is_some_and(|count| count > 1) {
        return anyhow::Error::from(error).context(what);
    }
    // A market that is older than this program has no answer to it.
    match market.nearest(&NearestRequest { requirements: asked.clone() }).await {
        Ok(nearest) if nearest.fitting == 0 => {
            let mut said = Failure::new(Exit::NoMatch, what).showing(lines(&nearest, first_reasons(&error)).join("\n"));
            if !nearest.changes.is_empty() {
                said = said.advise("change one of these, and ask again");
            }
            anyhow::Error::from(error).context(said)
        }
        _ => anyhow::Error::from(error).context(what),
    }
}

fn first_reasons(error: &ClientError) -> &[UnfitCount] {
    match error {
        ClientError::Problem(problem) => &problem.unfit,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sublet_model::book::Unfit;
    use sublet_wire::api::NearestChange;

    #[test]
    fn what_would_do_is_ready_to_be_typed() {
        let asked: Requirements = "cpu>=16 host=alpha".parse().unwrap();
        let change =
            |from: &str, to: &str| NearestChange { from: from.into(), to: to.into(), requirements: "cpu>=4".into() };
        let nearest = NearestAnswer {
            asked: asked.to_string(),
            lent: 7,
            fitting: 0,
            alone: vec![UnfitCount::new(Unfit::Host, &asked, 2)],
            free_at: None,
            changes: vec![change("cpu>=16", "cpu>=4"), change("host=alpha", "")],
        };
        assert_eq!(
            lines(&nearest, &[]),
            [
                "nothing fits of the 7 partitions that are lent",
                "left out by one reason alone:",
                "  2 partitions: on another host than asked for",
                "one change is enough, any of these:",
                "  cpu>=4, not cpu>=16",
                "  leave out host=alpha",
            ]
        );
        let several = NearestAnswer { alone: Vec::new(), changes: Vec::new(), ..nearest };
        let first = [UnfitCount::new(Unfit::Host, &asked, 7)];
        assert_eq!(
            lines(&several, &first)[1..],
            [
                "each is left out by more than one reason; the first of them:",
                "  7 partitions: on another host than asked for",
            ]
        );
    }
}
