//! A picture: networks with their containers, the host, outside, and violating flows in red.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::document::{Document, PartyView, State};
use super::junit::escape;

const BOX_WIDTH: u32 = 104;
const BOX_HEIGHT: u32 = 34;
const GAP: u32 = 14;
const PADDING: u32 = 16;
const TITLE: u32 = 26;
/// Containers beside each other in a network.
const ACROSS: usize = 3;
/// Networks beside each other.
const COLUMNS: usize = 3;
/// More arrows than this are not drawn: nobody could follow them.
const ARROWS: usize = 80;

/// Colours, for light and dark; the page and the picture share them.
pub(crate) const STYLE: &str = "
.net{fill:#eef1f4;stroke:#c3cad2}.box{fill:#fff;stroke:#8793a1}.host{fill:#e3ebf6;stroke:#5b7fae}.far{fill:#f4efe3;stroke:#a38c55}
.name{font:13px ui-sans-serif,system-ui,sans-serif;fill:#1b2733}.title{font:600 12px ui-sans-serif,system-ui,sans-serif;fill:#55616e;stroke:#eef1f4;stroke-width:4px;paint-order:stroke}
.wire{stroke:#8793a1;stroke-width:1.5;stroke-dasharray:4 3;fill:none}.bad{stroke:#c8102e;stroke-width:1.8;fill:none}.maybe{stroke:#b97700;stroke-width:1.6;stroke-dasharray:5 4;fill:none}
.tip{fill:#c8102e}
@media (prefers-color-scheme:dark){.net{fill:#1d242c;stroke:#3a4652}.box{fill:#28323c;stroke:#6d7b8a}.host{fill:#1f2f45;stroke:#6f9bd1}.far{fill:#332d1d;stroke:#b8a066}
.name{fill:#e6ebf0}.title{fill:#a7b3bf;stroke:#1d242c}.wire{stroke:#6d7b8a}.bad{stroke:#ff5c6c}.maybe{stroke:#ffb84d}.tip{fill:#ff5c6c}}
";

/// A picture that stands on its own.
#[must_use]
pub fn picture(document: &Document) -> String {
    Picture::of(document).render(document, true)
}

/// The same for a page that has [`STYLE`] already.
pub(crate) fn embedded(document: &Document) -> String {
    Picture::of(document).render(document, false)
}

#[derive(Debug, Clone, Copy)]
struct Place {
    x: u32,
    y: u32,
    width: u32,
}

impl Place {
    const fn middle(self) -> (u32, u32) {
        (self.x + self.width / 2, self.y + BOX_HEIGHT / 2)
    }
}

/// Where a network is.
#[derive(Debug, Clone, Copy)]
struct Frame {
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
}

/// A network, or a place for those who are on none.
struct Area<'a> {
    title: String,
    members: Vec<&'a PartyView>,
}

#[derive(Default)]
struct Picture {
    /// From back to front: frames, wires, boxes, arrows, titles.
    frames: String,
    wires: String,
    boxes: String,
    arrows: String,
    titles: String,
    places: BTreeMap<String, Place>,
    networks: BTreeMap<String, Frame>,
    width: u32,
    height: u32,
}

impl Picture {
    fn of(document: &Document) -> Self {
        let mut picture = Self { width: 3 * 3 * (BOX_WIDTH + GAP) + 4 * PADDING + 4 * GAP, ..Self::default() };
        let mut y = GAP;
        let areas = areas(document);
        for row in areas.chunks(COLUMNS) {
            let mut x = GAP;
            let mut lowest = 0;
            for area in row {
                let (width, height) = picture.area(area, x, y);
                x += width + GAP;
                lowest = lowest.max(height);
            }
            y += lowest + GAP;
        }
        y += GAP;
        for (kind, class) in [("host", "host"), ("namespace", "far"), ("metadata", "far"), ("outside", "far")] {
            let members: Vec<&PartyView> = document.parties.iter().filter(|party| party.kind == kind).collect();
            y = picture.bars(&members, class, y);
        }
        picture.height = y;
        picture
    }

    /// A frame with its members in it; its width and height.
    fn area(&mut self, area: &Area<'_>, x: u32, y: u32) -> (u32, u32) {
        let across = count(ACROSS.min(area.members.len().max(1)));
        let down = count(area.members.len().div_ceil(ACROSS).max(1));
        let width = across * (BOX_WIDTH + GAP) - GAP + 2 * PADDING;
        let height = TITLE + down * (BOX_HEIGHT + GAP) - GAP + PADDING;
        // Writing to a string does not fail.
        let _ = writeln!(self.frames, "<rect class=\"net\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>");
        // Above all: arrows and dashes pass behind it.
        let _ = writeln!(self.titles, "<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>", x + PADDING, y + 17, escape(&short(&area.title, 30)));
        self.networks.insert(area.title.clone(), Frame { left: x, right: x + width, top: y, bottom: y + height });
        for (index, member) in area.members.iter().enumerate() {
            let column = count(index % ACROSS);
            let row = count(index / ACROSS);
            let place = Place { x: x + PADDING + column * (BOX_WIDTH + GAP), y: y + TITLE + row * (BOX_HEIGHT + GAP), width: BOX_WIDTH };
            self.party(member, "box", place);
        }
        (width, height)
    }

    /// Those that are in no network, side by side over the whole width.
    fn bars(&mut self, members: &[&PartyView], class: &str, mut y: u32) -> u32 {
        for row in members.chunks(2 * COLUMNS) {
            let share = (self.width - GAP) / count(row.len()) - GAP;
            for (index, member) in row.iter().enumerate() {
                let place = Place { x: GAP + count(index) * (share + GAP), y, width: share };
                self.party(member, class, place);
            }
            y += BOX_HEIGHT + GAP;
        }
        y
    }

    fn party(&mut self, party: &PartyView, class: &str, place: Place) {
        let Place { x, y, width } = place;
        let (middle, line) = (x + width / 2, y + BOX_HEIGHT / 2 + 5);
        let addresses = escape(&party.addresses.join(", "));
        // Writing to a string does not fail.
        let _ = writeln!(
            self.boxes,
            "<g><title>{} {addresses}</title><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"5\"/><text class=\"name\" x=\"{middle}\" y=\"{line}\" text-anchor=\"middle\">{}</text></g>",
            escape(&party.name),
            escape(&short(&party.name, 13))
        );
        self.places.insert(party.name.clone(), place);
    }

    fn render(mut self, document: &Document, alone: bool) -> String {
        for party in &document.parties {
            self.wires(party);
        }
        self.arrows(document);
        let style = if alone { format!("<style>{STYLE}</style>") } else { String::new() };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Networks and violating flows\">{style}<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0 8 4 0 8z\"/></marker></defs>\n{}{}{}{}{}</svg>\n",
            self.width, self.height, self.frames, self.wires, self.boxes, self.arrows, self.titles
        )
    }

    /// Dashes to the other networks of a party that is on several: along the gap below its own, and to the near corner of the other.
    fn wires(&mut self, party: &PartyView) {
        let Some(place) = self.places.get(&party.name) else { return };
        let (x, _) = place.middle();
        let own = party.networks.first().and_then(|name| self.networks.get(name).copied());
        for network in party.networks.iter().skip(1) {
            let (Some(own), Some(other)) = (own, self.networks.get(network).copied()) else { continue };
            let gap = own.bottom + GAP / 2;
            let to_x = x.clamp(other.left + GAP, other.right - GAP);
            let to_y = if other.top >= gap { other.top } else { other.bottom };
            // Writing to a string does not fail.
            let _ = writeln!(self.wires, "<path class=\"wire\" d=\"M{x} {} V{gap} H{to_x} V{to_y}\"/>", place.y + BOX_HEIGHT);
        }
    }

    fn arrows(&mut self, document: &Document) {
        for violation in document.violations.iter().filter(|violation| violation.state != State::Closed).take(ARROWS) {
            let (Some(from), Some(to)) = (self.places.get(&violation.from), self.places.get(&violation.to)) else { continue };
            let ((a, b), (c, d)) = (edge(*to, *from), edge(*from, *to));
            let (dx, dy) = (i64::from(c) - i64::from(a), i64::from(d) - i64::from(b));
            let (middle_x, middle_y) = ((i64::from(a) + i64::from(c)) / 2, (i64::from(b) + i64::from(d)) / 2);
            // Bent to one side, so that the way back is another line; within a row it hangs below the boxes between.
            let (bend_x, bend_y) = if from.y == to.y { (middle_x, middle_y + 24 + dx.abs() / 10) } else { (middle_x - dy / 8, middle_y + dx / 8) };
            let class = if violation.state == State::Unknown { "maybe" } else { "bad" };
            let _ = writeln!(
                self.arrows,
                "<path class=\"{class}\" marker-end=\"url(#tip)\" d=\"M{a} {b} Q{bend_x} {bend_y} {c} {d}\"><title>{}</title></path>",
                escape(&super::text::title(violation))
            );
        }
    }
}

/// Where an arrow touches a box: above or below, at the side that looks to its other end; below when both are in one row.
fn edge(from: Place, to: Place) -> (u32, u32) {
    let (x, _) = to.middle();
    if from.y + BOX_HEIGHT <= to.y {
        (x, to.y)
    } else if to.y + BOX_HEIGHT <= from.y {
        (x, to.y + BOX_HEIGHT)
    } else {
        // Two arrows of one box do not leave from one point.
        (if from.x < to.x { x - to.width / 6 } else { x + to.width / 6 }, to.y + BOX_HEIGHT)
    }
}

/// Each container in the first of its networks.
fn areas(document: &Document) -> Vec<Area<'_>> {
    let mut by_network: BTreeMap<&str, Vec<&PartyView>> = BTreeMap::new();
    for party in document.parties.iter().filter(|party| party.kind == "container") {
        by_network.entry(party.networks.first().map_or("", String::as_str)).or_default().push(party);
        for other in party.networks.iter().skip(1) {
            by_network.entry(other.as_str()).or_default();
        }
    }
    let title = |name: &str| if name.is_empty() { "no network".to_owned() } else { name.to_owned() };
    by_network.into_iter().map(|(name, members)| Area { title: title(name), members }).collect()
}

fn short(name: &str, length: usize) -> String {
    if name.chars().count() <= length {
        return name.to_owned();
    }
    let kept: String = name.chars().take(length - 1).collect();
    format!("{kept}…")
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
