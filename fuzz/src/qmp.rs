//! QMP input: bytes of a client into JSON values. However they are cut, the result is the same; a broken line costs one
//! error; and a value that was found is one value again when it is written out.
//!
//! The input: how long the pieces are (one byte), then what the client sends.

use minivmm::monitor::json_stream::{JsonError, JsonStream, MAX_VALUE};
use serde_json::Value;

type Found = Vec<Result<Value, JsonError>>;

/// Fed in pieces of so many bytes.
fn found(input: &[u8], piece: usize) -> Found {
    let (mut stream, mut found) = (JsonStream::default(), Found::new());
    for piece in input.chunks(piece.max(1)) {
        stream.feed(piece, |result| found.push(result));
    }
    found
}

/// One execution.
pub fn run(data: &[u8]) {
    let Some((&piece, input)) = data.split_first() else { return };
    let whole = found(input, input.len());
    assert_eq!(whole, found(input, piece.into()), "it matters how the input is cut");
    let errors = whole.iter().filter(|result| result.is_err()).count();
    let lines = input.iter().filter(|&&byte| byte == b'\n' || byte == 0xff).count();
    assert!(errors <= lines + 1, "{errors} errors for {lines} line ends");
    for value in whole.into_iter().flatten() {
        let text = value.to_string();
        // Escapes may make it longer than what came.
        if text.len() <= MAX_VALUE {
            let again = found(text.as_bytes(), text.len());
            assert!(matches!(&again[..], [Ok(_)]), "{text}: {again:?}");
        }
    }
}
