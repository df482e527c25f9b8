//! Brokers take no change from an operator once a newer one has made one.

use super::Verdict;

pub(super) fn of_change(epoch: u64, newest: u64) -> Verdict {
    if epoch < newest {
        return Err(format!(
            "the operator {epoch} acts after the operator {newest}"
        ));
    }
    Ok(())
}
