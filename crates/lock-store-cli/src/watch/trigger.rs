//! A panic for tests. It is not in what is built for use.

use crossterm::event::{KeyCode, KeyEvent};

pub(super) fn panic_if_asked(key: KeyEvent) {
    let asked = std::env::var_os("LOCK_STORE_TEST_PANIC").is_some();
    assert!(
        !(asked && key.code == KeyCode::Char('!')),
        "a test asked for a panic"
    );
}
