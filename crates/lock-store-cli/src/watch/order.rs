//! In which order conversations are shown, and which.

use std::cmp::Ordering;

use super::lock::Seen;

/// By what conversations are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sort {
    #[default]
    Waiting,
    OldestWait,
    Age,
    LeaseLeft,
    Id,
}

impl Sort {
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Waiting => Self::OldestWait,
            Self::OldestWait => Self::Age,
            Self::Age => Self::LeaseLeft,
            Self::LeaseLeft => Self::Id,
            Self::Id => Self::Waiting,
        }
    }

    /// What matters most comes first: long queues and waits, old locks, leases
    /// that end soon. Where that is the same, the id decides, so that nothing
    /// moves without a reason.
    fn compare(self, one: &Seen, other: &Seen) -> Ordering {
        let by_id = one.id.cmp(&other.id);
        match self {
            Self::Waiting => other.waiting.cmp(&one.waiting).then(by_id),
            Self::OldestWait => other.oldest_wait.cmp(&one.oldest_wait).then(by_id),
            Self::Age => other.age.cmp(&one.age).then(by_id),
            Self::LeaseLeft => one.lease_left.cmp(&other.lease_left).then(by_id),
            Self::Id => by_id,
        }
    }
}

/// The order and the filter of a list.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) sort: Sort,
    pub(crate) reversed: bool,
    /// What the ids have to contain, in whatever case.
    pub(crate) filter: String,
}

impl Order {
    /// Which of the locks are shown, in their order.
    pub(crate) fn of(&self, locks: &[Seen]) -> Vec<usize> {
        let filter = self.filter.to_lowercase();
        let passes =
            |lock: &Seen| filter.is_empty() || lock.id.as_str().to_lowercase().contains(&filter);
        let mut rows: Vec<usize> = (0..locks.len()).filter(|i| passes(&locks[*i])).collect();
        rows.sort_unstable_by(|one, other| {
            let order = self.sort.compare(&locks[*one], &locks[*other]);
            if self.reversed {
                order.reverse()
            } else {
                order
            }
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::{lock, seconds};

    fn shown(order: &Order) -> Vec<String> {
        let mut locks = vec![
            lock("bo", 0, 1, 5),
            lock("Anna", 0, 2, 9),
            lock("ANNE", 0, 3, 5),
        ];
        locks[0].age = seconds(9.0);
        locks[1].lease_left = seconds(1.0);
        locks[2].oldest_wait = seconds(7.0);
        let rows = order.of(&locks);
        rows.iter().map(|i| locks[*i].id.to_string()).collect()
    }

    #[test]
    fn what_matters_most_comes_first_and_equals_by_id() {
        let by = |sort| {
            shown(&Order {
                sort,
                ..Order::default()
            })
        };
        assert_eq!(by(Sort::Waiting), ["Anna", "ANNE", "bo"]);
        assert_eq!(by(Sort::OldestWait), ["ANNE", "Anna", "bo"]);
        assert_eq!(by(Sort::Age), ["bo", "ANNE", "Anna"]);
        assert_eq!(by(Sort::LeaseLeft), ["Anna", "ANNE", "bo"]);
        assert_eq!(by(Sort::Id), ["ANNE", "Anna", "bo"]);
    }

    #[test]
    fn it_may_be_reversed() {
        let reversed = Order {
            reversed: true,
            ..Order::default()
        };
        assert_eq!(shown(&reversed), ["bo", "ANNE", "Anna"]);
    }

    #[test]
    fn a_filter_takes_either_case() {
        let filtered = |filter: &str| {
            shown(&Order {
                filter: filter.to_owned(),
                ..Order::default()
            })
        };
        assert_eq!(filtered("ann"), ["Anna", "ANNE"]);
        assert_eq!(filtered("NNA"), ["Anna"]);
        assert!(filtered("nobody").is_empty());
    }

    #[test]
    fn every_order_comes_round() {
        let mut sort = Sort::Waiting;
        for _ in 0..5 {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Waiting);
    }
}
