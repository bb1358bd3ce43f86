//! Draws the figures of `cargo bench --bench overhead`: what a look costs by the number of locks, what a second thread
//! brings, and what layers add.
//!
//! ```sh
//! cargo run --release --manifest-path benches/plot/Cargo.toml -- target/tmp/overhead.csv benches/overhead.png
//! ```
//!
//! The figures are lines of four fields between semicolons: panel, name, and two numbers. The picture is made as SVG (which is
//! written instead where the name of the file says so) and turned into pixels with the fonts of the system.

mod figures;
mod panels;
mod svg;

use std::{env, error::Error, fs, path::Path, process::ExitCode, sync::Arc};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

use self::{figures::Figures, svg::Svg};

const WIDTH: f64 = 1_180.0;
const HEIGHT: f64 = 1_050.0;
/// Pixels for each unit of the drawing.
const SCALE: f32 = 1.5;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [figures, picture] = &arguments[..] else {
        eprintln!("usage: plot FIGURES.csv PICTURE.png");
        return ExitCode::FAILURE;
    };
    match fs::read_to_string(figures).map_err(Into::into).and_then(|text| draw(&text, Path::new(picture))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{figures} to {picture}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(text: &str, picture: &Path) -> Result<(), Box<dyn Error>> {
    let figures = Figures::read(text)?;
    let mut svg = Svg::new(WIDTH, HEIGHT);
    panels::locks(&mut svg, &figures, 30.0, 20.0, 1_120.0, 540.0);
    panels::layers(&mut svg, &figures, 30.0, 600.0, 600.0, 430.0);
    panels::threads(&mut svg, &figures, 670.0, 600.0, 490.0, 430.0);
    let drawing = svg.done();
    if picture.extension().is_some_and(|extension| extension == "svg") {
        return Ok(fs::write(picture, drawing)?);
    }
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    if fonts.is_empty() {
        return Err("there is no font on this machine".into());
    }
    // One of these is on most machines; any other does as well.
    let families = ["DejaVu Sans", "Liberation Sans", "Helvetica", "Arial", "Segoe UI"];
    let has = |family: &str| fonts.faces().any(|face| face.families.iter().any(|(name, _)| name == family));
    if let Some(family) = families.into_iter().find(|family| has(family)) {
        fonts.set_sans_serif_family(family);
    }
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(&drawing, &options)?;
    let mut pixels = Pixmap::new((WIDTH as f32 * SCALE) as u32, (HEIGHT as f32 * SCALE) as u32).ok_or("too large")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels.save_png(picture)?)
}
