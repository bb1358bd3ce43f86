//! The three parts of the picture.

use crate::{
    figures::Figures,
    svg::{Anchor, Svg},
};

const INK: &str = "#1f2430";
const FAINT: &str = "#6b7280";
const GRID: &str = "#e4e7ec";
const OURS: &str = "#0b6bcb";
const PEER: &str = "#9aa3b2";

/// How a line is drawn: ours in blue, what it is compared with in other colours.
fn style(name: &str) -> (&'static str, f64, &'static str) {
    match name {
        "admit, check-only" => (OURS, 3.0, ""),
        "admit, check-only, far from all locks" => (OURS, 2.0, "2 4"),
        "admit and end, guarded" => ("#06336b", 3.0, ""),
        "admit and end, guarded, far from all locks" => ("#06336b", 2.0, "2 4"),
        name if name.contains("MemLs") => ("#c2410c", 2.0, ""),
        name if name.contains("dashmap") => ("#b7791f", 2.0, ""),
        name if name.contains("RwLock") => ("#7a4fa3", 2.0, ""),
        _ => ("#3f8f5b", 2.0, ""),
    }
}

/// What one look costs by the number of locks, both axes logarithmic, no locks in a column of its own.
pub fn locks(svg: &mut Svg, figures: &Figures, x: f64, y: f64, width: f64, height: f64) {
    let series: Vec<_> =
        figures.series("locks").into_iter().filter(|(name, _)| *name != "dashmap get, the far paths").collect();
    svg.bold((x, y + 18.0), 19.0, INK, "One look, by the number of locks that stand");
    let said = "Median of one call on one thread, paths of 44 bytes at depth 5. Both axes are logarithmic. Lower is better.";
    svg.text((x, y + 38.0), Anchor::Start, 13.0, FAINT, said);
    let (left, right, top, bottom) = (x + 62.0, x + width - 320.0, y + 58.0, y + height - 48.0);
    let all = || series.iter().flat_map(|(_, points)| points);
    let most = all().map(|(count, _)| *count).fold(1.0, f64::max).log10();
    let (least, highest) = all().fold((f64::MAX, 1.0_f64), |(low, high), (_, ns)| (low.min(*ns), high.max(*ns)));
    let (least, highest) = (least.max(0.5).log10().floor(), highest.log10().ceil());
    let step = (right - left - 40.0) / (most + 1.0);
    let across = |count: f64| left + 20.0 + if count < 1.0 { 0.0 } else { step * (1.0 + count.log10()) };
    let up = |ns: f64| bottom - (bottom - top) * (ns.max(0.5).log10() - least) / (highest - least);
    let mut power = least;
    while power <= highest {
        let ns = 10_f64.powf(power);
        svg.line((left, up(ns)), (right, up(ns)), GRID, 1.5);
        svg.text((left - 8.0, up(ns) + 4.5), Anchor::End, 13.0, INK, &grouped(ns));
        for part in 2..10 {
            let ns = ns * f64::from(part);
            if power < highest {
                svg.line((left, up(ns)), (right, up(ns)), "#f3f5f8", 1.0);
            }
        }
        power += 1.0;
    }
    let mut counts: Vec<f64> = all().map(|(count, _)| *count).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    for count in counts {
        svg.line((across(count), top), (across(count), bottom), GRID, 1.0);
        svg.text((across(count), bottom + 20.0), Anchor::Middle, 13.0, INK, &grouped(count));
    }
    svg.line((left, bottom), (right, bottom), INK, 1.5);
    svg.text(((left + right) / 2.0, bottom + 42.0), Anchor::Middle, 14.0, INK, "locks in the store, entries in the map");
    svg.upright((x + 14.0, (top + bottom) / 2.0), 14.0, INK, "nanoseconds");
    // The names stand where the lines end, pushed apart where they would overlap.
    let mut names: Vec<(f64, f64, &str)> = Vec::new();
    for (name, points) in &series {
        let (colour, width, dash) = style(name);
        let points: Vec<(f64, f64)> = points.iter().map(|(count, ns)| (across(*count), up(*ns))).collect();
        svg.path(&points, colour, width, dash);
        for point in &points {
            svg.dot(*point, width * 1.25, colour);
        }
        if let Some((_, end)) = points.last() {
            names.push((*end, *end, name));
        }
    }
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    for _ in 0..200 {
        for at in 1..names.len() {
            let gap = 19.0 - (names[at].1 - names[at - 1].1);
            if gap > 0.0 {
                names[at - 1].1 -= gap / 2.0;
                names[at].1 += gap / 2.0;
            }
        }
    }
    for (end, label, name) in names {
        let (colour, _, dash) = style(name);
        let last = across(10_f64.powf(most));
        svg.path(&[(last + 6.0, end), (right + 4.0, label), (right + 12.0, label)], colour, 1.0, dash);
        svg.text((right + 16.0, label + 4.5), Anchor::Start, 13.5, colour, &called(name));
    }
}

fn called(name: &str) -> String {
    match name.strip_prefix("admit") {
        Some(rest) => format!("tower-lock: admit{}", rest.replace("far from all locks", "far paths")),
        None => name.into(),
    }
}

/// What layers add to a service, on a logarithmic axis, each with its number.
pub fn layers(svg: &mut Svg, figures: &Figures, x: f64, y: f64, width: f64, height: f64) {
    let rows: Vec<_> = figures.of("layers").collect();
    svg.bold((x, y + 18.0), 19.0, INK, "What a layer adds to a call");
    svg.text(
        (x, y + 38.0),
        Anchor::Start,
        13.0,
        FAINT,
        "Nanoseconds, and units: an empty from_fn adds one. Blue: LockLayer. Lower is better.",
    );
    let (left, right, top, bottom) = (x + 290.0, x + width - 96.0, y + 58.0, y + height - 48.0);
    let most = rows.iter().map(|(_, ns, _)| *ns).fold(10.0, f64::max).log10().ceil();
    let across = |ns: f64| left + (right - left) * ns.max(1.0).log10() / most;
    let mut power = 0.0;
    while power <= most {
        let ns = 10_f64.powf(power);
        svg.line((across(ns), top), (across(ns), bottom), GRID, 1.5);
        svg.text(
            (across(ns), bottom + 18.0),
            Anchor::Middle,
            13.0,
            INK,
            &if power == 0.0 { "<= 1".into() } else { grouped(ns) },
        );
        power += 1.0;
    }
    svg.line((left, bottom), (right, bottom), INK, 1.5);
    svg.text(((left + right) / 2.0, bottom + 40.0), Anchor::Middle, 14.0, INK, "nanoseconds over the bare service");
    let step = (bottom - top) / rows.len().max(1) as f64;
    for (at, (name, ns, units)) in rows.iter().enumerate() {
        let middle = top + step * (at as f64 + 0.5);
        let peer = ["do-nothing", "tower_http", "tower_governor", "empty axum"].iter().any(|start| name.starts_with(start));
        let colour = if peer { PEER } else { OURS };
        svg.line((left, middle), (across(*ns), middle), colour, 3.0);
        svg.dot((across(*ns), middle), 5.0, colour);
        svg.text((left - 10.0, middle + 4.5), Anchor::End, 13.0, INK, name);
        let digits = if *units < 9.95 { 2 } else { 1 };
        let said = format!("{} ns, {:.digits$}", grouped(ns.max(0.0).round()), units.max(0.0) + 0.0);
        svg.text((across(*ns) + 10.0, middle + 4.5), Anchor::Start, 12.5, INK, &said);
    }
}

/// What a second thread brings.
pub fn threads(svg: &mut Svg, figures: &Figures, x: f64, y: f64, width: f64, height: f64) {
    let rows: Vec<_> = figures.of("threads").collect();
    svg.bold((x, y + 18.0), 19.0, INK, "Two threads at once");
    svg.text((x, y + 38.0), Anchor::Start, 13.0, FAINT, "Calls of both, to those of one in the same time. 2 is the most.");
    let (left, right, top, bottom) = (x + 12.0, x + width - 30.0, y + 58.0, y + height - 48.0);
    let most = rows.iter().map(|(_, _, speedup)| *speedup).fold(2.0, f64::max).max(2.0) * 1.04;
    let across = |speedup: f64| left + (right - left) * speedup / most;
    for part in 0..=4 {
        let at = f64::from(part) * 0.5;
        let (colour, width) = if part == 2 || part == 4 { ("#b4bcc9", 1.5) } else { (GRID, 1.0) };
        svg.line((across(at), top), (across(at), bottom), colour, width);
        svg.text((across(at), bottom + 18.0), Anchor::Middle, 13.0, INK, &format!("{at:.1}"));
    }
    svg.line((left, bottom), (right, bottom), INK, 1.5);
    svg.text(((left + right) / 2.0, bottom + 40.0), Anchor::Middle, 14.0, INK, "times the calls of one thread, 1,000 locks");
    let step = (bottom - top) / rows.len().max(1) as f64;
    for (at, (name, _, speedup)) in rows.iter().enumerate() {
        let above = top + step * at as f64;
        let ours = name.starts_with("admit") || name.contains("through the layer");
        let said = format!("{} {speedup:.2}", called(name));
        svg.bar((left + 2.0, above + step * 0.08), 7.3 * said.len() as f64, step * 0.44, "#ffffff");
        svg.text((left + 4.0, above + step * 0.42), Anchor::Start, 13.0, INK, &said);
        svg.bar((left, above + step * 0.54), across(*speedup) - left, step * 0.34, if ours { OURS } else { PEER });
    }
}

/// A whole number with its thousands set apart; smaller ones as they are.
fn grouped(number: f64) -> String {
    if number < 1.0 && number > 0.0 {
        return format!("{number}");
    }
    let digits = format!("{number:.0}");
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
