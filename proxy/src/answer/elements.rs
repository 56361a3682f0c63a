//! The elements of a JSON array that streams by, one at a time.

/// Cuts an array into its elements. What is between them is left to the reader of each: an element that is no JSON is none.
#[derive(Debug, Default)]
pub(super) struct Elements {
    element: Vec<u8>,
    /// Brackets and braces that are open; the array's own is the first.
    depth: usize,
    in_string: bool,
    escaped: bool,
    too_long: bool,
    ended: bool,
}

/// Most bytes of an element; longer ones are left out.
const MOST: usize = 1 << 20;

impl Elements {
    /// Takes the next bytes; gives each element that ends in them.
    pub(super) fn push(&mut self, bytes: &[u8], mut give: impl FnMut(&[u8])) {
        for b in bytes {
            let in_string = self.in_string;
            if in_string {
                self.in_string = self.escaped || *b != b'"';
                self.escaped = !self.escaped && *b == b'\\';
            } else {
                match b {
                    b'"' => self.in_string = true,
                    b'[' | b'{' => {
                        self.depth += 1;
                        if self.depth == 1 {
                            continue;
                        }
                    }
                    b']' | b'}' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            self.end(&mut give);
                            self.ended = true;
                            continue;
                        }
                    }
                    b',' if self.depth == 1 => {
                        self.end(&mut give);
                        continue;
                    }
                    _ => {}
                }
            }
            self.too_long |= self.element.len() >= MOST;
            if !self.too_long && self.depth > 0 {
                self.element.push(*b);
            }
        }
    }

    /// Whether the array has ended.
    pub(super) fn is_whole(&self) -> bool {
        self.ended
    }

    fn end(&mut self, give: &mut impl FnMut(&[u8])) {
        if !self.too_long && !self.element.trim_ascii().is_empty() {
            give(&self.element);
        }
        // What one long element took is not kept for the others.
        self.element = Vec::new();
        self.too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(json: &str, piece: usize) -> Option<Vec<String>> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        for bytes in json.as_bytes().chunks(piece) {
            elements.push(bytes, |element| found.push(String::from_utf8(element.to_vec()).unwrap().trim().to_owned()));
        }
        elements.is_whole().then_some(found)
    }

    #[test]
    fn an_array_is_cut_at_its_own_commas() {
        let json = r#" [ {"a":[1,{"b":"],}\\\"["}]} , "x\\", [ ] ,{}]
"#;
        for piece in 1..json.len() {
            assert_eq!(elements(json, piece).unwrap(), [r#"{"a":[1,{"b":"],}\\\"["}]}"#, r#""x\\""#, "[ ]", "{}"], "in pieces of {piece}");
        }
        assert_eq!(elements("[]", 1).unwrap(), Vec::<String>::new());
        assert_eq!(elements("[{},{", 1), None, "cut off");
        let long = format!("[\"{}\",1]", "x".repeat(MOST));
        assert_eq!(elements(&long, 4096).unwrap(), ["1"], "what is too long is left out");
    }
}
