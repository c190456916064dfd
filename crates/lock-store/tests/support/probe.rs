//! A future polled by hand: pending, woken, ready.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

pub struct Probe<F> {
    future: Pin<Box<F>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Takes a future in hand; it is not polled yet.
pub fn probe<I: IntoFuture>(future: I) -> Probe<I::IntoFuture> {
    Probe {
        future: Box::pin(future.into_future()),
        wakes: Arc::default(),
    }
}

impl<F: Future> Probe<F> {
    pub fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.wakes.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    pub fn is_woken(&self) -> bool {
        self.wakes.0.load(Ordering::SeqCst) > 0
    }

    #[track_caller]
    pub fn assert_pending(&mut self) {
        assert!(self.poll().is_pending(), "it is ready");
    }

    #[track_caller]
    pub fn assert_ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it is pending"),
        }
    }

    /// Awaits what is left of it.
    pub async fn rest(self) -> F::Output {
        self.future.await
    }
}
