//! Tasks that must not end: one that panics is noticed, and started again.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time;

use crate::metrics::metrics;

/// The pause between a panic and the next start: whatever made a task panic at once must not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs what `start` makes until it ends by itself. After a panic, which is logged, it is made once more.
pub async fn supervise<F: Future<Output = ()>>(name: &str, mut start: impl FnMut() -> F) {
    // There from the start, or the first restart would look like the beginning of a count.
    let restarts = metrics().task_restarts.with_label_values(&[name]);
    while let Err(panic) = AssertUnwindSafe(async { start().await }).catch_unwind().await {
        restarts.inc();
        tracing::error!(
            task = name,
            panic = panic_text(&panic),
            "a task panicked, and is started again"
        );
        time::sleep(PAUSE).await;
    }
}

/// The text of a panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    // catch_unwind answers a box, which is Any itself.
    let panic = panic
        .downcast_ref::<Box<dyn Any + Send>>()
        .map_or(panic, |boxed| &**boxed);
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again() {
        let mut starts = 0;
        supervise("test", || {
            starts += 1;
            let is_first = starts == 1;
            async move { assert!(!is_first, "planted") }
        })
        .await;
        assert_eq!(starts, 2);
    }

    #[test]
    fn a_panic_has_a_text() {
        let panic = std::panic::catch_unwind(|| panic!("planted {}", 1)).expect_err("a panic");
        assert_eq!(panic_text(&panic), "planted 1");
    }
}
