//! What the guest reports about itself while it settles: parses the lines that `settle.sh` prints.

use serde_json::Value;

use super::readiness::{BootFacts, BootId, CloudInit, ReadyError, SystemState};

/// A line that matters while the guest is still settling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReportLine {
    /// The boot that reports; always the first line.
    Boot(BootId),
    /// What the guest is busy with, in words.
    Busy(String),
}

/// What a report means once it has ended.
#[derive(Debug)]
pub(super) enum Conclusion {
    /// The guest has settled.
    Settled(BootFacts),
    /// Not yet, for this reason.
    Busy(String),
    /// It never will.
    Failed(ReadyError),
}

/// Collects the lines of one report. The last one is the system's state.
#[derive(Debug, Default)]
pub(super) struct GuestReport {
    boot_id: Option<BootId>,
    failed: Vec<String>,
    cloud_init: Option<CloudInit>,
    status: Value,
    result: Option<Value>,
    state: Option<String>,
}

impl GuestReport {
    pub(super) fn read_line(&mut self, line: &str) -> Option<ReportLine> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "boot" => {
                let boot_id = BootId::parse(rest)?;
                self.boot_id = Some(boot_id);
                return Some(ReportLine::Boot(boot_id));
            }
            "jobs" => return Some(ReportLine::Busy(busy_with(rest))),
            "nologin" => {
                return Some(ReportLine::Busy("waiting for logins to be allowed (/run/nologin)".into()));
            }
            "failed" => self.failed.push(rest.to_owned()),
            "cloud-init" if rest == "disabled" => self.cloud_init = Some(CloudInit::Disabled),
            "cloud-init" if rest == "absent" => self.cloud_init = Some(CloudInit::Absent),
            "cloud-init-status" => self.status = serde_json::from_str(rest).unwrap_or_default(),
            "cloud-init-result" => self.result = serde_json::from_str(rest).ok(),
            "state" => self.state = Some(rest.to_owned()),
            _ => {}
        }
        None
    }

    pub(super) fn conclude(self) -> Conclusion {
        let (Some(boot_id), Some(state)) = (self.boot_id, self.state) else {
            return Conclusion::Busy("the guest's report broke off".into());
        };
        let system = match state.as_str() {
            "running" => SystemState::Running,
            "degraded" => SystemState::Degraded(self.failed),
            "maintenance" => return Conclusion::Failed(ReadyError::Maintenance),
            other => {
                let state = if other.is_empty() { "nothing" } else { other };
                return Conclusion::Busy(format!("`systemctl is-system-running` says {state}"));
            }
        };
        let known = self.cloud_init.map_or_else(|| cloud_init(&self.status, self.result.as_ref()), Ok);
        match known {
            Ok(cloud_init) => Conclusion::Settled(BootFacts { boot_id, system, cloud_init }),
            Err(messages) => Conclusion::Failed(ReadyError::CloudInit { messages }),
        }
    }
}

/// The running jobs, in a few words.
fn busy_with(units: &str) -> String {
    const SHOWN: usize = 4;
    let units: Vec<&str> = units.split_whitespace().collect();
    if units.is_empty() {
        return "waiting for the boot to finish".into();
    }
    if units.iter().any(|unit| unit.starts_with("cloud-")) {
        return "SSH answers, waiting for cloud-init".into();
    }
    let (shown, more) = units.split_at(SHOWN.min(units.len()));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("waiting for units: {}{more}", shown.join(", "))
}

/// Reads `status.json` and `result.json` as cloud-init documents them (reference, "Status and result files").
fn cloud_init(status: &Value, result: Option<&Value>) -> Result<CloudInit, Vec<String>> {
    let (mut errors, mut recoverable) = (Vec::new(), Vec::new());
    for (name, stage) in status["v1"].as_object().into_iter().flatten() {
        errors.extend(texts(&stage["errors"]).map(|text| format!("{name}: {text}")));
        for (level, messages) in stage["recoverable_errors"].as_object().into_iter().flatten() {
            recoverable.extend(texts(messages).map(|text| format!("{name}: {level}: {text}")));
        }
    }
    let Some(result) = result else {
        errors.push("the boot finished without /run/cloud-init/result.json".into());
        return Err(errors);
    };
    for text in texts(&result["v1"]["errors"]) {
        if !errors.iter().any(|known| known.ends_with(&text)) {
            errors.push(text);
        }
    }
    if errors.is_empty() { Ok(CloudInit::Done { recoverable }) } else { Err(errors) }
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    list.as_array().into_iter().flatten().map(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "boot 3fe1ac58-53e2-4f7b-8b4c-0123456789ab";
    const STATUS: &str = r#"cloud-init-status {"v1": {"datasource": "DataSourceNoCloud", "stage": null,
        "init": {"errors": [], "finished": 2.0, "recoverable_errors": {}, "start": 1.0},
        "modules-final": {"errors": [], "recoverable_errors": {"WARNING": ["odd key"]}}}}"#;
    const RESULT: &str = r#"cloud-init-result {"v1": {"datasource": "DataSourceNoCloud", "errors": []}}"#;

    fn conclude(lines: &[&str]) -> Conclusion {
        let mut report = GuestReport::default();
        for line in lines {
            report.read_line(line);
        }
        report.conclude()
    }

    fn settled(lines: &[&str]) -> BootFacts {
        match conclude(lines) {
            Conclusion::Settled(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_settled_guest_reports_its_boot_its_state_and_recoverable_errors() {
        let facts = settled(&[BOOT, "jobs a.service", STATUS, RESULT, "failed x.service", "state degraded"]);
        assert_eq!(facts.boot_id.short(), "3fe1ac58");
        assert_eq!(facts.system, SystemState::Degraded(vec!["x.service".into()]));
        let recoverable = vec!["modules-final: WARNING: odd key".into()];
        assert_eq!(facts.cloud_init, CloudInit::Done { recoverable });
    }

    #[rstest::rstest]
    #[case("cloud-init absent", CloudInit::Absent)]
    #[case("cloud-init disabled", CloudInit::Disabled)]
    #[case(RESULT, CloudInit::Done { recoverable: vec![] })]
    fn a_guest_without_cloud_init_or_without_its_status_settles(
        #[case] line: &str,
        #[case] expected: CloudInit,
    ) {
        let facts = settled(&[BOOT, line, "state running"]);
        assert_eq!((facts.system, facts.cloud_init), (SystemState::Running, expected));
    }

    #[test]
    fn a_cloud_init_error_is_reported_once_with_its_stage() {
        let status = r#"cloud-init-status {"v1": {"init": {"errors": ["resizefs failed"]}}}"#;
        let result = r#"cloud-init-result {"v1": {"errors": ["resizefs failed"]}}"#;
        match conclude(&[BOOT, status, result, "state degraded"]) {
            Conclusion::Failed(ReadyError::CloudInit { messages }) => {
                assert_eq!(messages, ["init: resizefs failed"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_finished_boot_without_a_cloud_init_result_is_an_error() {
        let conclusion = conclude(&[BOOT, STATUS, "state running"]);
        assert!(matches!(conclusion, Conclusion::Failed(ReadyError::CloudInit { .. })), "{conclusion:?}");
    }

    #[rstest::rstest]
    #[case(&[BOOT, "state stopping"], "`systemctl is-system-running` says stopping")]
    #[case(&[BOOT, "state "], "`systemctl is-system-running` says nothing")]
    #[case(&[BOOT, RESULT], "the guest's report broke off")]
    #[case(&[RESULT, "state running"], "the guest's report broke off")]
    fn an_unfinished_report_means_not_yet_settled(#[case] lines: &[&str], #[case] expected: &str) {
        match conclude(lines) {
            Conclusion::Busy(reason) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn emergency_mode_is_never_ready() {
        let conclusion = conclude(&[BOOT, "state maintenance"]);
        assert!(matches!(conclusion, Conclusion::Failed(ReadyError::Maintenance)), "{conclusion:?}");
    }

    #[rstest::rstest]
    #[case("jobs", "waiting for the boot to finish")]
    #[case("jobs docker.service caddy.service", "waiting for units: docker.service, caddy.service")]
    #[case("jobs a b c d e f", "waiting for units: a, b, c, d and 2 more")]
    #[case("jobs cloud-final.service x.service", "SSH answers, waiting for cloud-init")]
    #[case("nologin", "waiting for logins to be allowed (/run/nologin)")]
    fn the_running_jobs_are_put_into_words(#[case] line: &str, #[case] words: &str) {
        assert_eq!(GuestReport::default().read_line(line), Some(ReportLine::Busy(words.into())));
    }
}
