//! How many replicas a function needs: the rule of Kubernetes' horizontal pod autoscaler, on CPU.
//!
//! Pure: what is measured and what time it is are parameters.

use edict_client::records::Autoscaling;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A load that is this near to the target changes nothing.
const TOLERANCE: f64 = 0.1;
/// Within this time the number of replicas at most doubles, or grows by [`GROWTH`] if that is more.
const GROWTH_PERIOD: Duration = Duration::from_secs(15);
const GROWTH: u32 = 4;

/// What has been measured of the replicas that there should be.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    /// CPU of each measured replica, in percent of one core.
    pub(super) replicas: Vec<f64>,
    /// Replicas that are not there yet, or not for long enough.
    pub(super) missing: u32,
}

impl Usage {
    /// Average of the measured replicas.
    pub(super) fn average(&self) -> Option<f64> {
        (!self.replicas.is_empty()).then(|| self.replicas.iter().sum::<f64>() / count(self.replicas.len()))
    }
}

/// Remembers what was wanted lately.
#[derive(Debug, Default)]
pub(super) struct Autoscaler {
    /// What the load alone asked for, and when; the oldest first.
    wanted: VecDeque<(Instant, u32)>,
    /// Growth, and when; the oldest first.
    growth: VecDeque<(Instant, u32)>,
    begun: bool,
}

impl Autoscaler {
    /// The number of replicas from now on, where `current` are wanted until now.
    pub(super) fn decide(&mut self, now: Instant, rule: &Autoscaling, current: u32, usage: &Usage) -> u32 {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let up = seconds(rule.scale_up_stabilization_seconds);
        let down = seconds(rule.scale_down_stabilization_seconds);
        let age = |then: Instant| now.saturating_duration_since(then);
        self.wanted.retain(|(then, _)| age(*then) <= up.max(down));
        self.growth.retain(|(then, _)| age(*then) < GROWTH_PERIOD);
        if !self.begun {
            // A load that nobody remembers is taken to have been what there are replicas for. Only once: a window that
            // is shorter than the time between two looks would hold the present number for ever.
            self.begun = true;
            self.wanted.push_back((now, current));
        }
        let proposed = proposal(rule, current, usage);
        self.wanted.push_back((now, proposed));
        let within = |window: Duration| {
            self.wanted.iter().filter(move |(then, _)| age(*then) < window).map(|(_, wanted)| *wanted)
        };
        let least = within(up).chain([proposed]).min().unwrap_or(proposed);
        let most = within(down).chain([proposed]).max().unwrap_or(proposed);
        let stable = if current < least { least } else { current.min(most) };
        let grown: u32 = self.growth.iter().map(|(_, added)| *added).sum();
        let base = current.saturating_sub(grown);
        let ceiling = (base * 2).max(base + GROWTH).max(current);
        let decided = stable.min(ceiling).clamp(rule.min_replicas, rule.max_replicas.max(rule.min_replicas));
        if decided > current {
            self.growth.push_back((now, decided - current));
        }
        decided
    }
}

/// What the load asks for. Replicas without a measurement are taken to be idle when more are wanted, and to use what they
/// should when fewer are, so that they only ever dampen.
fn proposal(rule: &Autoscaling, current: u32, usage: &Usage) -> u32 {
    let target = f64::from(rule.target_cpu_utilization_percentage.max(1));
    let Some(average) = usage.average() else { return current };
    let ratio = average / target;
    if (ratio - 1.0).abs() <= TOLERANCE {
        return current;
    }
    let measured = count(usage.replicas.len());
    let missing = f64::from(usage.missing);
    let assumed = if ratio > 1.0 { 0.0 } else { target };
    let dampened = (average * measured + assumed * missing) / (measured + missing) / target;
    if (dampened - 1.0).abs() <= TOLERANCE || (ratio > 1.0) != (dampened > 1.0) {
        return current;
    }
    let wanted = (dampened * (measured + missing)).ceil();
    // Measurements and what is wanted may be from different moments: a busy function never shrinks, an idle one never
    // grows.
    let wanted = if wanted >= f64::from(u32::MAX) { u32::MAX } else { whole(wanted) };
    if ratio > 1.0 { wanted.max(current) } else { wanted.min(current) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of replicas are far from where floats lose digits")]
fn count(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number, checked to fit")]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(min: u32, max: u32, target: u32, up: u32, down: u32) -> Autoscaling {
        Autoscaling {
            enabled: true,
            min_replicas: min,
            max_replicas: max,
            target_cpu_utilization_percentage: target,
            scale_up_stabilization_seconds: up,
            scale_down_stabilization_seconds: down,
        }
    }

    fn usage(replicas: &[f64]) -> Usage {
        Usage { replicas: replicas.to_vec(), missing: 0 }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_that_is_shorter_than_the_time_between_looks_holds_nothing() {
        let (start, rule) = (Instant::now(), rule(1, 10, 50, 1, 1));
        let mut autoscaler = Autoscaler::default();
        assert_eq!(autoscaler.decide(start, &rule, 2, &usage(&[1.0; 2])), 2, "what was before is not known");
        assert_eq!(autoscaler.decide(after(start, 5), &rule, 2, &usage(&[1.0; 2])), 1);
    }

    #[test]
    fn the_examples_of_the_kubernetes_manual_come_out() {
        let (now, rule) = (Instant::now(), rule(1, 100, 100, 0, 0));
        let once = |current, load: &[f64]| Autoscaler::default().decide(now, &rule, current, &usage(load));
        assert_eq!(once(1, &[200.0]), 2, "twice the target: twice as many");
        assert_eq!(once(4, &[50.0; 4]), 2, "half the target: half as many");
        assert_eq!(once(4, &[109.0; 4]), 4, "within the tolerance");
        assert_eq!(once(4, &[91.0; 4]), 4, "within the tolerance");
        assert_eq!(once(4, &[120.0; 4]), 5, "rounded up");
        assert_eq!(once(3, &[]), 3, "nothing measured, nothing changed");
    }

    #[test]
    fn growth_is_limited_to_double_or_four_in_fifteen_seconds() {
        let (start, rule) = (Instant::now(), rule(1, 1000, 1, 0, 0));
        let mut scaler = Autoscaler::default();
        let busy = |current: u32| usage(&vec![100.0; current as usize]);
        assert_eq!(scaler.decide(start, &rule, 1, &busy(1)), 5);
        assert_eq!(scaler.decide(after(start, 5), &rule, 5, &busy(5)), 5, "the same fifteen seconds");
        assert_eq!(scaler.decide(after(start, 16), &rule, 5, &busy(5)), 10);
        assert_eq!(scaler.decide(after(start, 32), &rule, 10, &busy(10)), 20);
    }

    #[test]
    fn shrinking_waits_until_less_was_wanted_throughout_the_window() {
        let (start, rule) = (Instant::now(), rule(1, 10, 50, 0, 60));
        let mut scaler = Autoscaler::default();
        assert_eq!(scaler.decide(start, &rule, 4, &usage(&[100.0; 4])), 8);
        for seconds in [5, 30, 59] {
            assert_eq!(scaler.decide(after(start, seconds), &rule, 8, &usage(&[1.0; 8])), 8);
        }
        assert_eq!(scaler.decide(after(start, 61), &rule, 8, &usage(&[1.0; 8])), 1);
    }

    #[test]
    fn growing_waits_until_more_was_wanted_throughout_the_window() {
        let (start, rule) = (Instant::now(), rule(1, 10, 50, 30, 0));
        let mut scaler = Autoscaler::default();
        for seconds in [0, 10, 29] {
            assert_eq!(scaler.decide(after(start, seconds), &rule, 2, &usage(&[100.0; 2])), 2);
        }
        assert_eq!(scaler.decide(after(start, 31), &rule, 2, &usage(&[100.0; 2])), 4);
    }

    #[test]
    fn replicas_that_are_not_measured_yet_dampen() {
        let (now, rule) = (Instant::now(), rule(1, 10, 50, 0, 0));
        let decide = |load: &[f64], missing| {
            let usage = Usage { replicas: load.to_vec(), missing };
            Autoscaler::default().decide(now, &rule, 4, &usage)
        };
        assert_eq!(decide(&[100.0, 100.0], 2), 4, "two that are on their way will take their part");
        assert_eq!(decide(&[100.0, 100.0, 100.0], 1), 6);
        assert_eq!(decide(&[0.0, 0.0], 2), 2, "two may be busy");
    }

    proptest! {
        #[test]
        fn the_rule_holds(
            bounds in (1_u32..20, 0_u32..20),
            target in 1_u32..=1000,
            windows in (0_u32..60, 0_u32..60),
            steps in proptest::collection::vec((0_u64..40, proptest::collection::vec(0.0_f64..2000.0, 0..20), 0_u32..5), 1..40),
        ) {
            let (min, max) = (bounds.0, bounds.0 + bounds.1);
            let rule = rule(min, max, target, windows.0, windows.1);
            let mut scaler = Autoscaler::default();
            let (mut now, mut current) = (Instant::now(), min);
            for (seconds, replicas, missing) in steps {
                now += Duration::from_secs(seconds);
                let usage = Usage { replicas, missing };
                let decided = scaler.decide(now, &rule, current, &usage);
                prop_assert!((min..=max).contains(&decided), "{decided} is out of bounds");
                prop_assert!(decided <= (current * 2).max(current + GROWTH), "from {current} to {decided}");
                match usage.average().map(|average| average / f64::from(target)) {
                    None => prop_assert_eq!(decided, current, "nothing measured"),
                    Some(ratio) if ratio > 1.0 + TOLERANCE => prop_assert!(decided >= current, "busy, and fewer"),
                    Some(ratio) if ratio < 1.0 - TOLERANCE => prop_assert!(decided <= current, "idle, and more"),
                    Some(_) => {}
                }
                current = decided;
            }
        }

        #[test]
        fn more_load_never_means_fewer_replicas(
            current in 1_u32..20, low in 0.0_f64..500.0, more in 0.0_f64..500.0, missing in 0_u32..5,
        ) {
            let rule = rule(1, 100, 50, 0, 0);
            let decide = |load: f64| {
                let usage = Usage { replicas: vec![load; current as usize], missing };
                Autoscaler::default().decide(Instant::now(), &rule, current, &usage)
            };
            prop_assert!(decide(low) <= decide(low + more));
        }
    }
}
