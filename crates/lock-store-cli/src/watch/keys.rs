//! What the keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{Action, App, Mode};
use super::order::Sort;

impl App {
    pub(crate) fn key(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Interrupt,
                KeyCode::Char('z') => Action::Suspend,
                KeyCode::Char('l') => Action::Redraw,
                _ => Action::Nothing,
            };
        }
        match &self.mode {
            Mode::Look => self.look_key(key.code),
            Mode::Filter(_) => self.filter_key(key.code),
            Mode::Ask(_) => self.answer(key.code),
            Mode::Help => {
                self.mode = Mode::Look;
                Action::Nothing
            }
        }
    }

    fn look_key(&mut self, code: KeyCode) -> Action {
        let page = isize::try_from(self.page).unwrap_or(isize::MAX).max(1);
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-page),
            KeyCode::PageDown => self.move_by(page),
            KeyCode::Home | KeyCode::Char('g') => self.move_to(0),
            KeyCode::End | KeyCode::Char('G') => self.move_to(usize::MAX),
            KeyCode::Char('r') => {
                if let Some(release) = self.ticket() {
                    self.mode = Mode::Ask(release);
                }
            }
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left if self.open.is_some() => {
                return self.close();
            }
            _ if self.open.is_none() => return self.list_key(code),
            _ => {}
        }
        Action::Nothing
    }

    fn list_key(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Enter | KeyCode::Right => return self.open(),
            KeyCode::Char('/') => self.mode = Mode::Filter(self.order.filter.clone()),
            KeyCode::Esc => self.filter(String::new()),
            KeyCode::Char('s') => self.sort(self.order.sort.next()),
            KeyCode::Char('S') => {
                self.order.reversed ^= true;
                self.arrange();
            }
            KeyCode::Char('w') => self.sort(Sort::Waiting),
            KeyCode::Char('o') => self.sort(Sort::OldestWait),
            KeyCode::Char('a') => self.sort(Sort::Age),
            KeyCode::Char('l') => self.sort(Sort::LeaseLeft),
            KeyCode::Char('i') => self.sort(Sort::Id),
            _ => {}
        }
        Action::Nothing
    }

    /// A list in a new order begins at its top.
    fn sort(&mut self, sort: Sort) {
        self.order.sort = sort;
        self.order.reversed = false;
        self.arrange();
        self.move_to(0);
    }

    fn filter(&mut self, filter: String) {
        self.order.filter = filter;
        self.arrange();
    }

    fn filter_key(&mut self, code: KeyCode) -> Action {
        let Mode::Filter(before) = &mut self.mode else {
            return Action::Nothing;
        };
        let mut filter = self.order.filter.clone();
        match code {
            KeyCode::Char(c) => filter.push(c),
            KeyCode::Backspace => {
                filter.pop();
            }
            KeyCode::Enter => self.mode = Mode::Look,
            KeyCode::Esc => {
                filter = std::mem::take(before);
                self.mode = Mode::Look;
            }
            _ => {}
        }
        self.filter(filter);
        Action::Nothing
    }

    /// Only y is a yes; everything else leaves things as they are.
    fn answer(&mut self, code: KeyCode) -> Action {
        match (std::mem::take(&mut self.mode), code) {
            (Mode::Ask(release), KeyCode::Char('y' | 'Y')) => return Action::Release(release),
            (Mode::Ask(_), _) => self.notify("nothing was released".to_owned()),
            _ => {}
        }
        Action::Nothing
    }
}
