//! What Enter opens in `top`, searching and filtering, latency over time, playing with time control.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use crate::{
    support::{ARMED_NS, Scratch, batch, busy, expect, extreme, locked_down, session},
    top::{PLAIN, RICH, app, key, screen, terminal, while_busy},
};
use profiler_common::words::Op;
use vmascope::{
    model::{Batch, Ground, HolderInfo, Segment, SegmentBy, Snapshot, Standing},
    recording::{Recording, Writer},
    sinks::top::{Action, App, Limited, Look, State},
};

const SIZES: [(u16, u16); 3] = [(60, 20), (80, 24), (160, 50)];

fn sizes(name: &str, app: &App) {
    let one = |(width, height)| format!("== {width}x{height}\n{}", screen(app, width, height));
    expect(name, &SIZES.map(one).concat());
}

fn char(app: &mut App, c: char) -> Action {
    key(app, KeyCode::Char(c))
}

fn text(app: &mut App, text: &str) {
    for c in text.chars() {
        assert_eq!(char(app, c), Action::Redraw);
    }
}

/// The longest wait, cut into everything a wait can be cut into.
fn told() -> Batch {
    let mut batch = batch();
    let holder = HolderInfo {
        tid: 1240,
        tgid: 1234,
        comm: "storm-fault-1".into(),
        prio: 139,
        op: Some(Op::Fault),
        ..HolderInfo::default()
    };
    let all = [
        (SegmentBy::Holder(holder), 30_000_000, 1),
        (SegmentBy::Readers, 9_000_000, 7),
        (SegmentBy::Others, 1_500_000, 90),
        (SegmentBy::Unknown, 500_000, 1),
        (SegmentBy::Handoff, 200_000, 1),
    ];
    let wait = &mut batch.waits[0];
    let mut start_ns = wait.start_ns;
    for (by, blamed_ns, stretches) in all {
        wait.blame.segments.push(Segment {
            start_ns,
            end_ns: start_ns + blamed_ns,
            blamed_ns,
            stretches,
            by,
        });
        start_ns += blamed_ns;
    }
    assert_eq!(start_ns, wait.end_ns);
    batch
}

fn normal() -> App {
    let mut app = App::new(session(), RICH);
    app.on_events([told()]);
    for snapshot in while_busy() {
        assert!(app.on_snapshot(snapshot));
    }
    app
}

#[test]
fn a_process_has_a_page() {
    let mut app = normal();
    char(&mut app, '2');
    assert_eq!(key(&mut app, KeyCode::Enter), Action::Redraw);
    sizes("top-page-process-normal.txt", &app);
    // Its threads are at the end, also where the screen is low.
    key(&mut app, KeyCode::End);
    assert!(screen(&app, 60, 14).contains("storm-fault-2"));
    assert_eq!(key(&mut app, KeyCode::Esc), Action::Redraw);
    assert!(screen(&app, 80, 24).contains("PID PROCESS"));

    let mut much = App::new(session(), PLAIN);
    much.on_events((0..300).map(|_| told()));
    assert!(much.on_snapshot(extreme()));
    char(&mut much, '2');
    key(&mut much, KeyCode::Enter);
    sizes("top-page-process-extreme.txt", &much);

    let mut down = app_of(locked_down(session()));
    char(&mut down, '2');
    key(&mut down, KeyCode::Enter);
    sizes("top-page-process-locked-down.txt", &down);
}

fn app_of(session: vmascope::model::Session) -> App {
    app(session, PLAIN, &[busy(1), busy(2)])
}

#[test]
fn a_process_that_is_forgotten_is_said_to_be() {
    let mut app = normal();
    char(&mut app, '2');
    key(&mut app, KeyCode::Enter);
    let mut without = busy(90);
    without.threads.retain(|t| t.tgid != 1234);
    app.on_snapshot(without);
    assert!(screen(&app, 80, 24).contains("process 1234 is not known any more"));
}

#[test]
fn nothing_opens_where_nothing_is() {
    let mut app = App::new(session(), PLAIN);
    for view in ['2', '3', '4', '6', '7'] {
        char(&mut app, view);
        assert_eq!(key(&mut app, KeyCode::Enter), Action::None, "{view}");
    }
}

#[test]
fn a_wait_has_a_page_with_who_held_the_lock() {
    let mut app = normal();
    char(&mut app, '3');
    assert_eq!(key(&mut app, KeyCode::Enter), Action::Redraw);
    sizes("top-page-wait-normal.txt", &app);
    key(&mut app, KeyCode::Esc);
    // The second in the list waited behind the first.
    char(&mut app, 'j');
    char(&mut app, 'j');
    key(&mut app, KeyCode::Enter);
    let behind = screen(&app, 100, 30);
    assert!(
        behind.contains("storm (1234) waited 41.2 ms on vma write"),
        "{behind}"
    );
    // It stays, even when the list is cleared.
    char(&mut app, 'c');
    assert!(screen(&app, 100, 30).contains("storm (1241) waited 3.40 ms"));
}

#[test]
fn the_cursor_stays_with_its_process() {
    let mut app = normal();
    char(&mut app, '2');
    let marked = |app: &App| {
        let screen = screen(app, 80, 24);
        let line = screen.lines().find(|l| l.starts_with('▸'));
        line.map(|l| l.split_whitespace().nth(2).unwrap_or("").to_owned())
    };
    assert_eq!(marked(&app), None);
    char(&mut app, 'j');
    assert_eq!(marked(&app).as_deref(), Some("storm"));
    char(&mut app, 'r');
    assert_eq!(marked(&app).as_deref(), Some("storm"));
    char(&mut app, 'k');
    assert_eq!(marked(&app).as_deref(), Some("cat"));
    key(&mut app, KeyCode::Esc);
    assert_eq!(marked(&app), None);

    // In a long list, it is never out of sight.
    let mut much = app_of_many();
    for _ in 0..700 {
        key(&mut much, KeyCode::Down);
        assert!(screen(&much, 60, 12).contains('>'));
    }
    sizes("top-processes-cursor-extreme.txt", &much);
}

fn app_of_many() -> App {
    let mut app = app(session(), PLAIN, &[extreme()]);
    char(&mut app, '2');
    app
}

#[test]
fn a_search_narrows_down_as_it_is_typed() {
    let mut app = normal();
    char(&mut app, '2');
    let has = |app: &App, name: &str| {
        screen(app, 80, 24)
            .lines()
            .skip(3)
            .any(|l| l.contains(name))
    };
    assert!(has(&app, "cat") && has(&app, "storm"));
    text(&mut app, "/STO");
    assert!(has(&app, "storm") && !has(&app, "812 cat"));
    sizes("top-search.txt", &app);
    // `q` is a letter here.
    text(&mut app, "q");
    assert!(screen(&app, 80, 24).contains("(none of that name is busy)"));
    key(&mut app, KeyCode::Backspace);
    key(&mut app, KeyCode::Enter);
    assert!(screen(&app, 80, 24).contains("search: STO   Esc shows all"));
    key(&mut app, KeyCode::Esc);
    assert!(has(&app, "cat"));
    // Numbers, too, and waits.
    text(&mut app, "/812");
    assert!(has(&app, "cat") && !has(&app, "storm"));
    key(&mut app, KeyCode::Enter);
    char(&mut app, '3');
    assert!(screen(&app, 80, 24).contains("(none of that name)"));
    text(&mut app, "/storm");
    key(&mut app, KeyCode::Enter);
    assert!(screen(&app, 80, 24).contains("page_mkwrite"));
}

/// A slow line brings them together, and a terminal's decoder makes one key of them.
#[test]
fn an_escape_and_the_next_key_are_two() {
    let mut app = normal();
    text(&mut app, "2/STO");
    app.on_key(KeyEvent::new(KeyCode::Char('7'), KeyModifiers::ALT));
    let now = screen(&app, 80, 24);
    assert!(
        !now.contains("STO") && now.contains("per-VMA lock"),
        "{now}"
    );
    // An escape alone would redraw; and a key without a meaning does not undo that.
    text(&mut app, "2/STO");
    let none = KeyEvent::new(KeyCode::F(5), KeyModifiers::ALT);
    assert_eq!(app.on_key(none), Action::Redraw);
}

#[test]
fn a_filter_leaves_one_process() {
    let mut app = normal();
    char(&mut app, 'f');
    assert!(screen(&app, 80, 24).contains("go there with j and k"));
    char(&mut app, '2');
    for _ in 0..2 {
        char(&mut app, 'j');
    }
    char(&mut app, 'f');
    sizes("top-filter.txt", &app);
    let screen_of = |app: &App| screen(app, 80, 24);
    assert!(screen_of(&app).contains("only cat (812)"));
    char(&mut app, '3');
    assert!(screen_of(&app).contains("(none of that name)"));
    char(&mut app, 'f');
    assert!(screen_of(&app).contains("page_mkwrite"));
}

#[test]
fn heat_maps_change_places() {
    let mut app = normal();
    char(&mut app, '5');
    let first = |app: &App| {
        let screen = screen(app, 80, 24);
        let head = screen.lines().find(|l| l.contains("OVER TIME")).unwrap();
        head.split(" OVER").next().unwrap().trim().to_owned()
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(first(&app));
        key(&mut app, KeyCode::Enter);
    }
    assert_eq!(
        seen,
        ["FAULTS", "WAITS read", "WAITS write", "WAITS vma_write"]
    );
    assert_eq!(first(&app), "FAULTS");
    // Where there is room for one of them only, it takes the table's place.
    assert!(!screen(&app, 60, 20).contains("SINCE ARMING"));
    key(&mut app, KeyCode::Esc);
    assert!(screen(&app, 60, 20).contains("SINCE ARMING"));
    // Of a whole history, and in ASCII.
    let mut long = App::new(session(), PLAIN);
    for n in 1..=300 {
        long.on_snapshot(busy(n));
    }
    char(&mut long, '5');
    sizes("top-heat-long.txt", &long);
}

#[test]
fn policies_are_worked_out_where_they_are_looked_at() {
    let mut app = normal();
    char(&mut app, '6');
    let shown = screen(&app, 80, 24);
    assert!(shown.contains("hold_across_io"), "{shown}");
}

#[test]
fn the_interval_and_the_speed_have_ends() {
    let mut app = app_of(session());
    assert_eq!(char(&mut app, '-'), Action::Interval);
    assert_eq!(app.interval(), Duration::from_secs(2));
    assert!(screen(&app, 80, 24).contains("a picture every 2 s"));
    let mut steps = 0;
    while char(&mut app, '+') == Action::Interval {
        steps += 1;
    }
    assert_eq!((steps, app.interval()), (4, Duration::from_millis(100)));
    app.playing(9_000_000_000);
    for _ in 0..20 {
        char(&mut app, '+');
    }
    assert_eq!(app.speed(), 64.0);
    assert!(screen(&app, 80, 24).contains("playing 2.00 s / 9.00 s x64"));
    for _ in 0..20 {
        char(&mut app, '-');
    }
    assert_eq!(app.speed(), 0.5);
    assert_eq!(key(&mut app, KeyCode::Right), Action::Seek(5));
    assert_eq!(key(&mut app, KeyCode::Left), Action::Seek(-5));
    char(&mut app, 'S');
    assert!(screen(&app, 80, 24).contains("vmascope export FILE --csv DIR"));
}

#[test]
fn what_was_said_is_gone_with_the_next_key() {
    let mut app = app_of(session());
    assert_eq!(char(&mut app, 'S'), Action::Save);
    app.say("the last 59.0 s are in a.db".into());
    assert!(screen(&app, 80, 24).contains("59.0 s"));
    assert_eq!(char(&mut app, 'x'), Action::Redraw);
    assert!(!screen(&app, 80, 24).contains("59.0 s"));
}

#[test]
fn an_app_s_ground_is_a_column_where_there_is_one() {
    let at = |seconds| {
        let mut s = busy(seconds);
        s.threads[0].standing = Standing {
            oom_score_adj: Some(905),
            ground: Some(Ground::Background),
        };
        s
    };
    let first = at(1).threads[0].clone();
    assert_eq!(first.tid, first.tgid);
    let mut app = app(session(), PLAIN, &[at(1), at(2)]);
    char(&mut app, '2');
    let seen = screen(&app, 100, 24);
    let row = seen.lines().find(|l| l.contains(&first.comm)).unwrap();
    assert!(seen.contains("ground") && row.contains("bg 905"), "{seen}");
    let plain = {
        let mut app = app_of(session());
        char(&mut app, '2');
        screen(&app, 100, 24)
    };
    assert!(!plain.contains("ground"), "{plain}");
}

#[test]
fn programs_that_are_off_are_said_to_be() {
    let mut app = app_of(session());
    let why = "the programs took 3.1 % of all CPUs, more than --max-overhead 2%";
    app.limited(Limited::Sample(4, format!("1 fault in 4 timed: {why}")));
    assert_eq!(app.state(), State::Live);
    assert!(screen(&app, 120, 24).contains("1 fault in 4 timed: the programs took 3.1 %"));
    app.limited(Limited::Off(format!("off: {why}")));
    assert_eq!(app.state(), State::Off);
    sizes("top-off.txt", &app);
}

#[test]
fn the_cost_of_the_programs_is_shown_where_it_is_known() {
    let at = |seconds: u64| {
        let mut s: Snapshot = busy(seconds);
        s.own_bpf_ns = Some(seconds * 31_000_000);
        s.own_mapped_bytes = 2 << 20;
        s
    };
    let mut app = app(session(), PLAIN, &[at(1), at(2)]);
    assert!(screen(&app, 160, 50).contains("BPF 3.1 %"));
    char(&mut app, '7');
    key(&mut app, KeyCode::End);
    sizes("top-doctor-cost.txt", &app);
}

#[test]
fn a_light_background_has_other_colours() {
    let colors = |light: bool| {
        let look = Look { light, ..RICH };
        let mut app = app(session(), look, &[busy(1), busy(2)]);
        app.on_events([told()]);
        let terminal = terminal(&app, 80, 24);
        let buffer = terminal.backend().buffer().clone();
        let all = buffer.content().iter().map(|c| c.fg);
        all.collect::<std::collections::HashSet<_>>()
    };
    assert!(colors(false).contains(&Color::Yellow) && colors(false).contains(&Color::Cyan));
    assert!(!colors(true).contains(&Color::Yellow) && !colors(true).contains(&Color::Cyan));
    assert!(colors(true).contains(&Color::Magenta));
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    let app = app_of(session());
    assert!(screen(&app, 39, 24).starts_with("too small: 39x24, needs 40x10\n"));
    assert!(screen(&app, 80, 9).contains("needs 40x10"));
    assert!(!screen(&app, 40, 10).contains("too small"));
}

#[test]
fn segments_come_back_out_of_a_recording() {
    let dir = Scratch::new("segments");
    let path = dir.file("a.db");
    let mut writer = Writer::create(&path, &session()).unwrap();
    writer.events(&told()).unwrap();
    writer.finish(&busy(1)).unwrap();
    let recording = Recording::open(&path).unwrap();
    let wait = &told().waits[0];
    assert_eq!(recording.segments(wait.id).unwrap(), wait.blame.segments);
    assert_eq!(recording.segments(7).unwrap(), []);
    assert!(wait.start_ns > ARMED_NS);
}
