//! The figures as the bench writes them.

/// All of them, in the order of the file.
pub struct Figures {
    rows: Vec<Row>,
}

struct Row {
    panel: String,
    name: String,
    a: f64,
    b: f64,
}

impl Figures {
    /// Reads lines of `panel;name;number;number`.
    pub fn read(text: &str) -> Result<Self, String> {
        let row = |line: &str| {
            let mut fields = line.split(';');
            let (panel, name) = (fields.next()?.to_owned(), fields.next()?.to_owned());
            let (a, b) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            fields.next().is_none().then_some(Row { panel, name, a, b })
        };
        let rows: Result<Vec<Row>, String> =
            text.lines().map(|line| row(line).ok_or_else(|| format!("not panel;name;number;number: {line}"))).collect();
        let rows = rows?;
        if rows.is_empty() { Err("no figures".into()) } else { Ok(Self { rows }) }
    }

    /// The rows of a panel: name and both numbers.
    pub fn of<'a>(&'a self, panel: &'a str) -> impl Iterator<Item = (&'a str, f64, f64)> {
        self.rows.iter().filter(move |row| row.panel == panel).map(|row| (&*row.name, row.a, row.b))
    }

    /// The names of a panel, each once, with their points.
    pub fn series<'a>(&'a self, panel: &'a str) -> Vec<(&'a str, Vec<(f64, f64)>)> {
        let mut series: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
        for (name, a, b) in self.of(panel) {
            match series.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push((a, b)),
                None => series.push((name, vec![(a, b)])),
            }
        }
        series
    }
}
