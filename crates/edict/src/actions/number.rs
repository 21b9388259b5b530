//! Numbers as Python and JavaScript print them.
//!
//! All three languages take the shortest digits that lead back to the same double; they differ in when they write an
//! exponent, and how.

/// A number's text as Python's `json.dumps` writes it: whole numbers with every digit, others as `repr` of a float.
pub(super) fn python(text: &str) -> String {
    if !text.contains(['.', 'e', 'E']) {
        return if text == "-0" { "0".to_owned() } else { text.to_owned() };
    }
    Digits::of(text).map_or_else(|| text.to_owned(), |digits| digits.python())
}

/// A number's text as JavaScript's `JSON.stringify` writes it: every number is a double there.
pub(super) fn javascript(text: &str) -> String {
    Digits::of(text).map_or_else(|| text.to_owned(), |digits| digits.javascript())
}

/// A double: sign, shortest digits, and where the point stands: at 1, it is behind the first of them.
struct Digits {
    negative: bool,
    digits: String,
    point: i32,
}

impl Digits {
    fn of(text: &str) -> Option<Self> {
        let value: f64 = text.parse().ok()?;
        let shortest = format!("{:e}", value.abs());
        // Of two shortest texts at the same distance both languages take the even one, as exact rounding does.
        let digits = shortest.split_once('e')?.0.replace('.', "").len();
        let rounded = format!("{:.*e}", digits - 1, value.abs());
        let leads_back =
            rounded.parse::<f64>().is_ok_and(|rounded| rounded.to_bits() == value.abs().to_bits());
        let scientific = if leads_back { rounded } else { shortest };
        let (mantissa, exponent) = scientific.split_once('e')?;
        let exponent: i32 = exponent.parse().ok()?;
        Some(Self {
            negative: value.is_sign_negative(),
            digits: mantissa.replace('.', ""),
            point: exponent + 1,
        })
    }

    fn python(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        if (-3..=16).contains(&self.point) {
            let fixed = self.fixed();
            let fraction = if fixed.contains('.') { "" } else { ".0" };
            return format!("{sign}{fixed}{fraction}");
        }
        let exponent = self.point - 1;
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        format!("{sign}{}e{exponent_sign}{:02}", self.mantissa(), exponent.abs())
    }

    fn javascript(&self) -> String {
        if self.digits == "0" {
            return "0".to_owned();
        }
        let sign = if self.negative { "-" } else { "" };
        if (-5..=21).contains(&self.point) {
            return format!("{sign}{}", self.fixed());
        }
        format!("{sign}{}e{:+}", self.mantissa(), self.point - 1)
    }

    /// Without an exponent.
    fn fixed(&self) -> String {
        let Ok(whole) = usize::try_from(self.point) else {
            let zeros = "0".repeat(usize::try_from(-self.point).unwrap_or_default());
            return format!("0.{zeros}{}", self.digits);
        };
        match self.digits.split_at_checked(whole) {
            Some((whole, "")) => whole.to_owned(),
            Some(("", fraction)) => format!("0.{fraction}"),
            Some((whole, fraction)) => format!("{whole}.{fraction}"),
            None => format!("{:0<whole$}", self.digits),
        }
    }

    fn mantissa(&self) -> String {
        match self.digits.split_at_checked(1) {
            Some((first, rest)) if !rest.is_empty() => format!("{first}.{rest}"),
            _ => self.digits.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn numbers_are_printed_as_both_languages_do() {
        for (text, in_python, in_javascript) in [
            ("1.0", "1.0", "1"),
            ("-0.0", "-0.0", "0"),
            ("-0", "0", "0"),
            ("0", "0", "0"),
            ("1e16", "1e+16", "10000000000000000"),
            ("1e15", "1000000000000000.0", "1000000000000000"),
            ("1E+21", "1e+21", "1e+21"),
            ("1e20", "1e+20", "100000000000000000000"),
            ("0.0001", "0.0001", "0.0001"),
            ("0.00001", "1e-05", "0.00001"),
            ("0.000001", "1e-06", "0.000001"),
            ("0.0000001", "1e-07", "1e-7"),
            ("1.5e-7", "1.5e-07", "1.5e-7"),
            ("123.456", "123.456", "123.456"),
            ("1234567890123456789.0", "1.2345678901234568e+18", "1234567890123456800"),
            ("9007199254740993", "9007199254740993", "9007199254740992"),
            ("-18446744073709551616", "-18446744073709551616", "-18446744073709552000"),
            ("5e-324", "5e-324", "5e-324"),
            ("1779300000000000.25", "1779300000000000.2", "1779300000000000.2"),
            ("1.7976931348623157e308", "1.7976931348623157e+308", "1.7976931348623157e+308"),
        ] {
            assert_eq!(python(text), in_python, "{text}");
            assert_eq!(javascript(text), in_javascript, "{text}");
        }
    }

    /// What the languages themselves print for doubles of every size, one a line.
    #[test]
    fn numbers_are_printed_as_the_languages_themselves_do() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut doubles = Vec::new();
        while doubles.len() < 20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Half of them of any size, half with few digits and a small exponent, where the forms change.
            let double = match doubles.len() % 2 {
                0 => f64::from_bits(state),
                _ => format!("{}e{}", state % 100_000, (state >> 40) % 50).parse::<f64>().unwrap() * 1e-25,
            };
            if double.is_finite() {
                doubles.push(format!("{double:?}"));
            }
        }
        let numbers = format!("[{}]", doubles.join(","));
        let python_says = ask(
            "python3",
            &["-c", "import json, sys\nfor x in json.load(sys.stdin): print(json.dumps(x))"],
            &numbers,
        );
        let node_says = ask(
            "node",
            &[
                "-e",
                "for (const x of JSON.parse(require('fs').readFileSync(0))) console.log(JSON.stringify(x))",
            ],
            &numbers,
        );
        for (text, expected) in doubles.iter().zip(python_says.lines()) {
            assert_eq!(python(text), expected, "{text}");
        }
        for (text, expected) in doubles.iter().zip(node_says.lines()) {
            assert_eq!(javascript(text), expected, "{text}");
        }
    }

    fn ask(program: &str, arguments: &[&str], input: &str) -> String {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}, which this compares with, does not start: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}
