// Which lines of a text are not in another one: the longest common subsequence of lines.

// Past this many lines nothing is compared: it takes time and room by the product of both lengths.
const MOST = 1000;

// For each line of `text`, whether it is (in order) in `other` too.
export function common(text, other) {
  const a = text.split('\n'), b = other.split('\n');
  if (a.length > MOST || b.length > MOST) return a.map((line) => ({ line, same: true }));
  // longest[i][j]: how many lines a from i and b from j have in common.
  const width = b.length + 1, longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const lines = [];
  for (let i = 0, j = 0; i < a.length; i++) {
    while (j < b.length && a[i] !== b[j] && longest[i * width + j + 1] >= longest[(i + 1) * width + j]) j++;
    const same = j < b.length && a[i] === b[j];
    lines.push({ line: a[i], same });
    if (same) j++;
  }
  return lines;
}
