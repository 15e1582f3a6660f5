//! The soaks at small scale: the same code that `cargo xtask soak NAME` runs for hours, one at a time.

use std::sync::{Mutex, PoisonError};

use relay_tests::farm::Picture;
use relay_tests::needs;
use relay_tests::soak::{Report, cameras, churn, hls, kill, kvs, kvs_cut, viewers};

/// The runs measure how soon something happens: two at once would measure each other.
static MACHINE: Mutex<()> = Mutex::new(());

fn must_keep_its_promises(run: impl FnOnce() -> anyhow::Result<Report>) {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = run().unwrap_or_else(|error| panic!("{error:#}"));
    println!("{report}");
    assert!(report.broken.is_empty(), "\n{report}");
}

#[test]
fn faulty_cameras_come_back_and_cost_the_others_nothing() {
    must_keep_its_promises(|| cameras::run(&cameras::Scale { cameras: 20, rounds: 1, picture: Picture::SMALL }));
}

#[test]
fn a_kill_costs_at_most_a_fragment() {
    if needs(&["ffmpeg", "ffprobe"]) {
        must_keep_its_promises(|| kill::run(&kill::Scale { kills: 6, cameras: 4, seed: 0x5eed }));
    }
}

#[test]
fn connects_and_disconnects_leave_nothing_behind() {
    must_keep_its_promises(|| churn::run(&churn::Scale { connects: 1_000, cameras: 20 }));
}

#[test]
fn viewers_who_come_and_go_leave_nothing_behind() {
    must_keep_its_promises(|| viewers::run(&viewers::Scale { sessions: 200, wave: 20 }));
}

#[test]
fn whatever_happens_to_origin_service_and_relayd_what_reached_the_ring_is_stored() {
    // Nothing in it is measured: it may run beside others.
    let report = kvs::run(&kvs::Scale::a_minute(0x5eed)).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{report}");
    assert!(report.broken.is_empty(), "\n{report}");
}

#[test]
fn a_cut_network_costs_nothing_with_a_spool() {
    let cut = std::time::Duration::from_secs(25);
    must_keep_its_promises(|| kvs_cut::run(&kvs_cut::Scale { picture: Picture::SMALL, cut }));
}

#[test]
fn live_hls_survives_its_origin() {
    if needs(&["ffmpeg"]) {
        must_keep_its_promises(|| hls::run(&hls::Scale::a_minute()));
    }
}
