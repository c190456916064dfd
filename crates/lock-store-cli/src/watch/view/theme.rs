//! How things look. A colour is never the only sign.

use ratatui::style::{Color, Modifier, Style};

/// With colours or without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Theme {
    pub(crate) colours: bool,
}

impl Theme {
    /// What <https://no-color.org> asks for.
    pub(crate) fn from_environment() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: !no_colour,
        }
    }

    fn coloured(self, style: Style, colour: Color) -> Style {
        if self.colours {
            style.fg(colour)
        } else {
            style
        }
    }

    pub(super) fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn header() -> Style {
        Style::new().add_modifier(Modifier::UNDERLINED)
    }

    pub(super) fn selected() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn alert(self) -> Style {
        self.coloured(Self::strong(), Color::Red)
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Style::new(), Color::Green)
    }

    pub(super) fn graph(self) -> Style {
        self.coloured(Style::new(), Color::Cyan)
    }
}
