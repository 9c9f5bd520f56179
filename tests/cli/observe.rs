//! `-d`, `-trace` and `coverage=`.

use std::path::PathBuf;

use minivmm::cli::{Command, Device, DoctorMode, TraceFormat, TraceOptions};

use crate::{parse, refusal, run};

#[test]
fn the_doctor_reports_or_ends_the_run() {
    assert_eq!(run("").observe.doctor, None);
    for (line, doctor) in [
        ("-d guest_errors", Some(DoctorMode::Report)),
        ("-d guest_errors=on", Some(DoctorMode::Report)),
        ("-d guest_errors=fatal", Some(DoctorMode::Fatal)),
        ("-d guest_errors=off", None),
        ("-d guest_errors,unimp", Some(DoctorMode::Report)),
        ("-d guest_errors=fatal -d symbols=System.map", Some(DoctorMode::Fatal)),
    ] {
        assert_eq!(run(line).observe.doctor, doctor, "{line}");
    }
    let both = run("-d guest_errors,symbols=/boot/System.map").observe;
    assert_eq!(both.symbols, Some(PathBuf::from("/boot/System.map")));
    assert_eq!(run("-d symbols=a,,b,guest_errors").observe.symbols, Some(PathBuf::from("a,b")));
}

#[test]
fn traces_add_up() {
    let traces =
        run("-trace e1000_* -trace enable=e1000_link,file=t.json,format=json,limit=5").observe.traces;
    let first =
        TraceOptions { pattern: "e1000_*".into(), file: None, format: TraceFormat::Text, limit: 100_000 };
    let second = TraceOptions {
        pattern: "e1000_link".into(),
        file: Some("t.json".into()),
        format: TraceFormat::Json,
        limit: 5,
    };
    assert_eq!(traces, [first, second]);
    let capture = run("-trace file=t.pcapng,format=pcapng").observe.traces.remove(0);
    assert_eq!((capture.pattern.as_str(), capture.format), ("*", TraceFormat::PcapNg));
}

#[test]
fn coverage_is_a_file_of_a_nic() {
    let config = run("-device e1000,coverage=used.json");
    let Device::E1000(nic) = &config.devices[0] else { panic!("a NIC") };
    assert_eq!(nic.coverage, Some(PathBuf::from("used.json")));
}

#[test]
fn help_lists_what_there_is() {
    let Ok(Command::Print(text)) = parse(&["-d", "help"]) else { panic!("no help") };
    assert!(text.contains("guest_errors=") && text.contains("symbols="), "{text}");
    let Ok(Command::TraceHelp(text)) = parse(&["-trace", "help"]) else { panic!("no help") };
    assert!(text.contains("format=") && text.contains("limit="), "{text}");
    assert!(minivmm::machine::trace_help().contains("e1000_tx_frame"));
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    for (line, parts) in [
        ("-d int", &["-d int: -d has no 'int' here; use a debugger"][..]),
        ("-d guest_error", &["-d guest_error: ", "guest_errors"]),
        ("-d guest_errors=maybe", &["guest_errors"]),
        ("-d guest_errors,guest_errors", &["'guest_errors' is given twice"]),
        ("-trace e1000_*,format=pcapng", &["'format=pcapng' needs a file; add file=FILE"]),
        ("-trace e1000_*,format=xml", &["format"]),
        ("-trace e1000_*,events=f", &["events"]),
        ("-trace ,file=f", &["the pattern is empty"]),
        ("-D log", &["QEMU's -D is not here"]),
    ] {
        let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split(' ')).collect();
        let message = refusal(&words);
        assert!(parts.iter().all(|part| message.contains(part)), "{line}: {message}");
    }
}
