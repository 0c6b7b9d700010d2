//! Tasks that serve others for as long as the process lives: if one ends by a panic, the process must not go on as if
//! it were there.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

/// Runs `task` to its end. If the task panics, `failed` gets a text that names it and says why.
pub async fn told_if_it_panics(name: &'static str, task: impl Future<Output = ()>, failed: impl FnOnce(String)) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        let reason = format!("{name} panicked: {}", words(panic.as_ref()));
        tracing::error!(reason, "task.panicked: the process ends, since nothing does this task's work");
        failed(reason);
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason is given")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_its_reason_and_an_end_is_not() {
        let told = RefCell::new(Vec::new());
        let tell = |why| told.borrow_mut().push(why);
        told_if_it_panics("the first", async {}, tell).await;
        told_if_it_panics("the second", async { assert!("no number".parse::<u8>().expect("a number") > 0) }, tell)
            .await;
        told_if_it_panics("the third", async { assert_eq!(1, 2, "no {}", 5) }, tell).await;
        let told = told.into_inner();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0], "the second panicked: a number: ParseIntError { kind: InvalidDigit }");
        assert!(told[1].starts_with("the third panicked: ") && told[1].contains("no 5"), "{told:?}");
    }
}
