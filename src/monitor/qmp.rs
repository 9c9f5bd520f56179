//! QMP: the conversation with a program.
//!
//! Runs on a session's thread. Greeting, negotiation, one answer for each command with its `id`, events from
//! negotiation on. Error classes and texts are QEMU's where it has one for the mistake.

use serde_json::{Map, Value, json};

use super::commands::{CommandError, Commands};
use super::events::Event;
use super::hmp;
use super::json_stream::{JsonError, JsonStream};
use super::qmp_commands;
use super::session::Protocol;

/// The QEMU whose command set and texts these are.
const LIKE_QEMU: [u32; 3] = [7, 2, 0];

/// What programs see of our own version.
pub(super) fn version() -> Value {
    let [major, minor, micro] = LIKE_QEMU;
    json!({
        "qemu": {"major": major, "minor": minor, "micro": micro},
        "package": concat!("minivmm ", env!("CARGO_PKG_VERSION")),
    })
}

/// One client's conversation after the other.
#[derive(Debug)]
pub struct Qmp {
    commands: Commands,
    stream: JsonStream,
    negotiated: bool,
}

impl Qmp {
    /// Nobody is there yet.
    pub fn new(commands: Commands) -> Self {
        Self { commands, stream: JsonStream::default(), negotiated: false }
    }

    fn answer(&mut self, input: Result<Value, JsonError>) -> Value {
        let input = match input {
            Ok(input) => input,
            Err(error) => return failed(&CommandError::Generic(format!("JSON parse error, {error}")), None),
        };
        let id = input.get("id").cloned();
        match self.execute(input) {
            Ok(result) => with_id(json!({"return": result}), id),
            Err(error) => failed(&error, id),
        }
    }

    fn execute(&mut self, input: Value) -> Result<Value, CommandError> {
        let (name, arguments) = command_of(input)?;
        if name == "qmp_capabilities" {
            return self.negotiate(&arguments);
        }
        if !self.negotiated {
            let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return Err(CommandError::NotFound(text.into()));
        }
        if name == "human-monitor-command" {
            return self.human(arguments);
        }
        qmp_commands::execute(&self.commands, &name, arguments)
    }

    fn negotiate(&mut self, arguments: &Map<String, Value>) -> Result<Value, CommandError> {
        if self.negotiated {
            let text = "Capabilities negotiation is already complete, command ignored";
            return Err(CommandError::NotFound(text.into()));
        }
        qmp_commands::check(qmp_commands::CAPABILITIES, arguments)?;
        if let Some(first) = arguments.get("enable").and_then(Value::as_array).and_then(|list| list.first()) {
            let text =
                format!("Parameter 'enable' does not accept value '{}'", first.as_str().unwrap_or("?"));
            return Err(CommandError::Generic(text));
        }
        self.negotiated = true;
        Ok(json!({}))
    }

    fn human(&self, arguments: Map<String, Value>) -> Result<Value, CommandError> {
        qmp_commands::check(qmp_commands::HUMAN, &arguments)?;
        let line = arguments.get("command-line").and_then(Value::as_str).unwrap_or_default();
        Ok(hmp::run(&self.commands, line).into())
    }
}

/// The command's name and arguments, out of the object that a client sent.
fn command_of(input: Value) -> Result<(String, Map<String, Value>), CommandError> {
    let generic = |text: String| CommandError::Generic(text);
    let Value::Object(mut object) = input else {
        return Err(generic("QMP input must be a JSON object".into()));
    };
    object.remove("id");
    let name = object.remove("execute").ok_or_else(|| generic("QMP input lacks member 'execute'".into()))?;
    let Value::String(name) = name else {
        return Err(generic("QMP input member 'execute' must be a string".into()));
    };
    let arguments = match object.remove("arguments") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(generic("QMP input member 'arguments' must be an object".into())),
    };
    match object.keys().next() {
        Some(other) => Err(generic(format!("QMP input member '{other}' is unexpected"))),
        None => Ok((name, arguments)),
    }
}

fn failed(error: &CommandError, id: Option<Value>) -> Value {
    with_id(json!({"error": {"class": error.class(), "desc": error.to_string()}}), id)
}

fn with_id(mut answer: Value, id: Option<Value>) -> Value {
    if let (Some(object), Some(id)) = (answer.as_object_mut(), id) {
        object.insert("id".into(), id);
    }
    answer
}

/// One line, ended as the QMP specification wants it.
fn say(value: &impl std::fmt::Display) -> Vec<u8> {
    format!("{value}\r\n").into_bytes()
}

impl Protocol for Qmp {
    fn opened(&mut self, out: &mut Vec<u8>) {
        self.closed();
        out.extend(say(&json!({"QMP": {"version": version(), "capabilities": []}})));
    }

    fn input(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        let (mut stream, mut found) = (std::mem::take(&mut self.stream), Vec::new());
        stream.feed(bytes, |result| found.push(result));
        self.stream = stream;
        for input in found {
            out(&say(&self.answer(input)));
        }
    }

    fn happened(&mut self, _event: &Event, text: &str, out: &mut Vec<u8>) {
        if self.negotiated {
            out.extend(say(&text));
        }
    }

    fn closed(&mut self) {
        self.negotiated = false;
        self.stream.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing::commands;

    struct Client(Qmp);

    impl Client {
        fn new() -> Self {
            Self(Qmp::new(commands().0))
        }

        fn negotiated() -> Self {
            let mut client = Self::new();
            assert_eq!(client.ask(r#"{"execute":"qmp_capabilities"}"#), [json!({"return": {}})]);
            client
        }

        fn ask(&mut self, input: &str) -> Vec<Value> {
            let mut answers = Vec::new();
            self.0.input(input.as_bytes(), &mut |line| {
                assert!(line.ends_with(b"\r\n"));
                answers.push(serde_json::from_slice(line).unwrap());
            });
            answers
        }

        fn refused(&mut self, input: &str) -> (String, String) {
            let answer = self.ask(input).pop().unwrap();
            let text = |key: &str| answer["error"][key].as_str().unwrap().to_owned();
            (text("class"), text("desc"))
        }
    }

    #[test]
    fn a_client_is_greeted_and_negotiates_once() {
        let mut client = Client::new();
        let mut greeting = Vec::new();
        client.0.opened(&mut greeting);
        let greeting: Value = serde_json::from_slice(&greeting).unwrap();
        assert_eq!(greeting["QMP"]["capabilities"], json!([]));
        assert!(greeting["QMP"]["version"]["package"].as_str().unwrap().starts_with("minivmm "));
        let (class, desc) = client.refused(r#"{"execute":"query-status"}"#);
        assert_eq!((class.as_str(), desc.contains("qmp_capabilities")), ("CommandNotFound", true));
        let mut out = Vec::new();
        client.0.happened(&Event::Stop, "x", &mut out);
        assert!(out.is_empty(), "no events before negotiation");
        let (_, desc) = client.refused(r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#);
        assert!(desc.contains("'oob'"), "{desc}");
        assert_eq!(client.ask("{'execute': 'qmp_capabilities', 'id': 7}"), [json!({"return": {}, "id": 7})]);
        assert_eq!(client.refused(r#"{"execute":"qmp_capabilities"}"#).0, "CommandNotFound");
        client.0.happened(&Event::Stop, "x", &mut out);
        assert_eq!(out, b"x\r\n");
        client.0.closed();
        client.0.opened(&mut out);
        assert_eq!(
            client.refused(r#"{"execute":"stop"}"#).0,
            "CommandNotFound",
            "the next client is another"
        );
    }

    #[test]
    fn mistakes_are_answered_as_qemu_does() {
        let mut client = Client::negotiated();
        let generic = [
            ("[1]", "QMP input must be a JSON object"),
            ("{}", "QMP input lacks member 'execute'"),
            (r#"{"execute":1}"#, "QMP input member 'execute' must be a string"),
            (r#"{"execute":"stop","arguments":[]}"#, "QMP input member 'arguments' must be an object"),
            (r#"{"execute":"stop","foo":1}"#, "QMP input member 'foo' is unexpected"),
            (r#"{"execute":"stop","arguments":{"x":1}}"#, "Parameter 'x' is unexpected"),
            (r#"{"execute":"set_link","arguments":{"up":true}}"#, "Parameter 'name' is missing"),
            (
                r#"{"execute":"set_link","arguments":{"name":"a","up":"on"}}"#,
                "Invalid parameter type for 'up', expected: boolean",
            ),
        ];
        for (input, desc) in generic {
            assert_eq!(client.refused(input), ("GenericError".into(), desc.into()), "{input}");
        }
        let (class, desc) = client.refused(r#"{"execute":"query_status"}"#);
        assert_eq!(class, "CommandNotFound");
        assert_eq!(desc, "The command query_status has not been found; did you mean 'query-status'?");
        let (class, desc) = client.refused(r#"{"execute":"set_link","arguments":{"name":"no","up":true}}"#);
        assert_eq!((class.as_str(), desc.as_str()), ("DeviceNotFound", "Device 'no' not found"));
        let answer = client.ask("garbage {\n{\"execute\":\"query-status\",\"id\":{\"a\":[]}}");
        assert!(answer[0]["error"]["desc"].as_str().unwrap().starts_with("JSON parse error"));
        assert_eq!(answer[1]["id"], json!({"a": []}));
        assert_eq!(answer[1]["return"]["status"], "running");
    }

    #[test]
    fn the_human_monitor_answers_with_text() {
        let mut client = Client::negotiated();
        let answer = client
            .ask(r#"{"execute":"human-monitor-command","arguments":{"command-line":"info status"}}"#)
            .remove(0);
        assert_eq!(answer["return"], "VM status: running\r\n");
    }
}
