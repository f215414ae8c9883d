//! The screens of `top` at several sizes, and what keys and snapshots do to its state.

use std::{cell::RefCell, rc::Rc};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::{CrosstermBackend, TestBackend},
    layout::Rect,
    style::Color,
};

use crate::support::{batch, busy, contended, expect, extreme, idle, locked_down, session};
use vmascope::{
    model::{Session, Snapshot},
    sinks::top::{Action, App, Look, Sort, State, View, draw},
};

pub const PLAIN: Look = Look {
    color: false,
    unicode: false,
    light: false,
};
pub const RICH: Look = Look {
    color: true,
    unicode: true,
    light: false,
};

pub fn app(session: Session, look: Look, snapshots: &[Snapshot]) -> App {
    let mut app = App::new(session, look);
    for snapshot in snapshots {
        assert!(app.on_snapshot(snapshot.clone()));
    }
    app
}

pub fn terminal(app: &App, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal
}

pub fn screen(app: &App, width: u16, height: u16) -> String {
    let terminal = terminal(app, width, height);
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

pub fn key(app: &mut App, code: KeyCode) -> Action {
    app.on_key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Busier and calmer seconds.
pub fn while_busy() -> Vec<Snapshot> {
    let steps = [1, 2, 1, 3, 5, 2, 1, 1, 4, 1];
    let total = |n: usize| (0..n).map(|i| steps[i % steps.len()]).sum::<u64>();
    let at = |n: usize| {
        let mut s = busy(total(n));
        s.duration_ns = n as u64 * 1_000_000_000;
        s
    };
    (1..=20).map(at).collect()
}

#[test]
fn screens() {
    for (width, height) in [(80, 24), (60, 20), (120, 40)] {
        let size = format!("{width}x{height}");
        for (name, look, snapshots) in [
            ("empty", PLAIN, vec![]),
            ("idle", PLAIN, vec![idle(1), idle(2)]),
            ("busy", RICH, while_busy()),
            ("extreme", PLAIN, vec![extreme()]),
        ] {
            let app = app(session(), look, &snapshots);
            expect(
                &format!("top-{name}-{size}.txt"),
                &screen(&app, width, height),
            );
        }
    }
}

#[test]
fn screens_of_other_kernels() {
    let two = [busy(1), busy(2)];
    let down = app(locked_down(session()), PLAIN, &two);
    expect("top-locked-down-80x24.txt", &screen(&down, 80, 24));
    let contended = app(contended(session()), PLAIN, &two);
    expect("top-contended-80x24.txt", &screen(&contended, 80, 24));
    let mut old = session();
    old.vma_lock = "none".into();
    expect(
        "top-no-vma-lock-80x24.txt",
        &screen(&app(old, PLAIN, &two), 80, 24),
    );
}

#[test]
fn every_size_can_be_drawn() {
    let mut app = app(session(), RICH, &[extreme()]);
    for help in [false, true] {
        if help {
            key(&mut app, KeyCode::Char('?'));
        }
        for width in (0..130).step_by(3) {
            for height in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
                terminal(&app, width, height);
            }
        }
    }
}

#[test]
fn keys() {
    let mut app = app(session(), PLAIN, &[busy(1)]);
    assert_eq!(key(&mut app, KeyCode::Char('x')), Action::None);
    assert_eq!(key(&mut app, KeyCode::Char('q')), Action::Quit);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.on_key(ctrl_c), Action::Quit);

    assert_eq!(key(&mut app, KeyCode::Char('?')), Action::Redraw);
    expect("top-help-80x24.txt", &screen(&app, 80, 24));
    expect("top-help-60x20.txt", &screen(&app, 60, 20));
    assert_eq!(key(&mut app, KeyCode::Esc), Action::Redraw);
    assert!(!screen(&app, 80, 24).contains("help -"));

    let before = screen(&app, 80, 24);
    assert!(before.contains("faults/s*"));
    let mut seen = vec![app.sort()];
    for _ in 0..5 {
        assert_eq!(key(&mut app, KeyCode::Char('s')), Action::Redraw);
        seen.push(app.sort());
    }
    assert_eq!(seen[0], seen[5]);
    assert!(seen[1..5].iter().all(|s| *s != Sort::Faults));
}

#[test]
fn a_pause_holds_the_screen_and_loses_no_count() {
    let mut app = app(session(), PLAIN, &[busy(1)]);
    key(&mut app, KeyCode::Char(' '));
    let held = screen(&app, 80, 24);
    assert!(held.contains("paused at 1.00 s"), "{held}");
    assert!(!app.on_snapshot(busy(2)));
    assert!(!app.on_snapshot(busy(3)));
    assert_eq!(screen(&app, 80, 24), held);
    key(&mut app, KeyCode::Char(' '));
    assert!(app.on_snapshot(busy(4)));
    // 2000 faults a second all the while.
    assert!(screen(&app, 80, 24).contains("all               2,000"));
}

#[test]
fn the_sort_column_decides_the_order() {
    let mut app = app(session(), PLAIN, &[busy(1)]);
    let first = |app: &App| {
        let screen = screen(app, 80, 24);
        let at = screen
            .lines()
            .position(|l| l.contains("PID PROCESS"))
            .unwrap();
        screen.lines().nth(at + 1).unwrap().trim().to_owned()
    };
    assert!(first(&app).starts_with("1234 storm"));
    key(&mut app, KeyCode::Char('s'));
    assert!(
        first(&app).starts_with("812 cat"),
        "the only one with major faults"
    );
}

#[test]
fn a_played_recording_has_processes_at_its_end() {
    let mut app = App::new(session(), PLAIN);
    app.playing(2_000_000_000);
    let mut without = busy(1);
    without.threads.clear();
    app.on_snapshot(without);
    assert!(screen(&app, 80, 24).contains("at its end"));
    app.on_snapshot(busy(2));
    app.ended();
    assert_eq!(app.state(), State::Ended);
    let end = screen(&app, 80, 24);
    // 2780 faults in two seconds.
    assert!(
        end.contains("end of recording 2.00 s") && end.contains("1234 storm"),
        "{end}"
    );
    assert!(end.contains("1,390"), "{end}");
}

#[test]
fn a_loss_is_red_and_colours_can_be_switched_off() {
    let colors = |look| {
        let terminal = terminal(&app(session(), look, &[extreme()]), 80, 24);
        let buffer = terminal.backend().buffer().clone();
        let all = buffer.content().iter().map(|c| c.fg);
        all.collect::<std::collections::HashSet<_>>()
    };
    assert!(colors(RICH).contains(&Color::Red));
    assert_eq!(colors(PLAIN), [Color::Reset].into());
}

/// Every view of one state, at one size after the other.
fn views(name: &str, app: &mut App) {
    for view in View::ALL {
        let n = char::from(b'1' + view as u8);
        assert_eq!(key(app, KeyCode::Char(n)), Action::Redraw);
        assert_eq!(app.view(), view);
        let mut out = String::new();
        for (width, height) in [(60, 20), (80, 24), (160, 50)] {
            out.push_str(&format!(
                "== {width}x{height}\n{}",
                screen(app, width, height)
            ));
        }
        let view = view.name().to_lowercase();
        expect(&format!("top-view-{view}-{name}.txt"), &out);
    }
}

#[test]
fn views_of_nothing_and_of_much() {
    views("empty", &mut App::new(session(), PLAIN));
    let mut normal = App::new(session(), RICH);
    normal.on_events([batch()]);
    for snapshot in while_busy() {
        assert!(normal.on_snapshot(snapshot));
    }
    views("normal", &mut normal);
    let mut much = App::new(session(), PLAIN);
    much.on_events((0..300).map(|_| batch()));
    assert!(much.on_snapshot(extreme()));
    views("extreme", &mut much);
}

#[test]
fn views_follow_each_other_and_scroll_to_their_end() {
    let mut app = app(session(), PLAIN, &[busy(1)]);
    for view in View::ALL.iter().skip(1).chain([&View::Overview]) {
        key(&mut app, KeyCode::Tab);
        assert_eq!(app.view(), *view);
    }
    key(&mut app, KeyCode::BackTab);
    assert_eq!(app.view(), View::Doctor);
    for _ in 0..100 {
        key(&mut app, KeyCode::PageDown);
    }
    assert!(screen(&app, 60, 12).contains("maps in the kernel"));
}

#[test]
fn a_pause_holds_the_events_too() {
    let mut app = app(session(), PLAIN, &[busy(1)]);
    key(&mut app, KeyCode::Char('3'));
    key(&mut app, KeyCode::Char(' '));
    let held = screen(&app, 80, 24);
    app.on_events([batch()]);
    assert_eq!(screen(&app, 80, 24), held);
    key(&mut app, KeyCode::Char(' '));
    let seen = screen(&app, 80, 24);
    assert!(seen.contains("page_mkwrite"), "{seen}");
    key(&mut app, KeyCode::Char('c'));
    assert!(!screen(&app, 80, 24).contains("page_mkwrite"));
}

/// A slow link gets only the cells that changed.
#[test]
fn a_steady_frame_is_small() {
    let sent = Sent::default();
    let backend = CrosstermBackend::new(sent.clone());
    let size = Viewport::Fixed(Rect::new(0, 0, 80, 24));
    let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport: size }).unwrap();
    let mut app = App::new(session(), RICH);
    app.on_events([batch()]);
    let seconds = while_busy();
    let (warm, steady) = seconds.split_at(5);
    // Every view, and the pages behind two of them.
    for keys in ["1", "2", "2\n", "3", "3\n", "4", "5", "6", "7"] {
        for c in keys.chars() {
            let code = if c == '\n' {
                KeyCode::Enter
            } else {
                KeyCode::Char(c)
            };
            key(&mut app, code);
        }
        for snapshot in warm {
            app.on_snapshot(snapshot.clone());
            terminal.draw(|frame| draw(frame, &app)).unwrap();
        }
        for snapshot in steady {
            sent.0.borrow_mut().clear();
            app.on_snapshot(snapshot.clone());
            terminal.draw(|frame| draw(frame, &app)).unwrap();
            let bytes = sent.0.borrow().len();
            assert!(bytes <= 4096, "{keys:?}: {bytes} bytes");
        }
    }
}

#[derive(Clone, Default)]
struct Sent(Rc<RefCell<Vec<u8>>>);

impl std::io::Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    for args in [&["top"][..], &["top", "no-such.db"]] {
        let mut top = std::process::Command::new(env!("CARGO_BIN_EXE_vmascope"));
        let out = top.args(args).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(out.stdout.is_empty());
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("needs a terminal") && said.contains("vmascope record"));
    }
}
