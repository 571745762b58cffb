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
    /// The units whose jobs run.
    Jobs(Vec<String>),
}

/// What a report means once it has ended.
#[derive(Debug)]
pub(super) enum Conclusion<T> {
    /// What was waited for is there.
    Settled(T),
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
    /// The units of cloud-init that do not start by themselves.
    off: Vec<String>,
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
            "jobs" => {
                return Some(ReportLine::Jobs(rest.split_whitespace().map(str::to_owned).collect()));
            }
            "nologin" => {
                return Some(ReportLine::Busy("waiting for logins to be allowed (/run/nologin)".into()));
            }
            "failed" => self.failed.push(rest.to_owned()),
            "cloud-init" if rest == "disabled" => self.cloud_init = Some(CloudInit::Disabled),
            "cloud-init" if rest == "absent" => self.cloud_init = Some(CloudInit::Absent),
            "cloud-init-unit" => self.off.extend(switched_off(rest)),
            "cloud-init-status" => self.status = serde_json::from_str(rest).unwrap_or_default(),
            "cloud-init-result" => self.result = serde_json::from_str(rest).ok(),
            "state" => self.state = Some(rest.to_owned()),
            _ => {}
        }
        None
    }

    /// Of a report that is only to show that a command runs.
    pub(super) fn boot(self) -> Conclusion<BootId> {
        self.boot_id.map_or_else(|| Conclusion::Busy(BROKE_OFF.into()), Conclusion::Settled)
    }

    pub(super) fn conclude(self) -> Conclusion<BootFacts> {
        let (Some(boot_id), Some(state)) = (self.boot_id, self.state) else {
            return Conclusion::Busy(BROKE_OFF.into());
        };
        let off = if self.failed.iter().any(|unit| is_stage(unit)) { Vec::new() } else { self.off };
        let system = match state.as_str() {
            "running" => SystemState::Running,
            "degraded" => SystemState::Degraded(self.failed),
            "maintenance" => return Conclusion::Failed(ReadyError::Maintenance),
            other => {
                let state = if other.is_empty() { "nothing" } else { other };
                return Conclusion::Busy(format!("`systemctl is-system-running` says {state}"));
            }
        };
        let known = self.cloud_init.map_or_else(|| cloud_init(&self.status, self.result.as_ref(), off), Ok);
        match known {
            Ok(cloud_init) => Conclusion::Settled(BootFacts { boot_id, system, cloud_init }),
            Err(messages) => Conclusion::Failed(ReadyError::CloudInit { messages }),
        }
    }
}

const BROKE_OFF: &str = "the guest's report broke off";

/// The units that run cloud-init's stages, before and since its release 24.3, without their suffix.
const STAGES: [&str; 6] = [
    "cloud-init-main",
    "cloud-init-local",
    "cloud-init-network",
    "cloud-init",
    "cloud-config",
    "cloud-final",
];

fn is_stage(unit: &str) -> bool {
    unit == "cloud-init.target" || unit.strip_suffix(".service").is_some_and(|name| STAGES.contains(&name))
}

/// The unit of a line `UNIT STATE…` of `systemctl list-unit-files`, if it runs a stage and its state says that it does not
/// start (systemctl(1), "is-enabled").
fn switched_off(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (unit, state) = (words.next()?, words.next()?);
    let is_off = matches!(state, "masked" | "masked-runtime" | "disabled");
    (is_stage(unit) && is_off).then(|| format!("{unit} is {state}"))
}

/// Reads `status.json` and `result.json` as cloud-init documents them (reference, "Status and result files"). Without a result,
/// cloud-init failed, unless it reported no error and units of it, `off`, were switched off.
fn cloud_init(status: &Value, result: Option<&Value>, off: Vec<String>) -> Result<CloudInit, Vec<String>> {
    let (mut errors, mut recoverable) = (Vec::new(), Vec::new());
    for (name, stage) in status["v1"].as_object().into_iter().flatten() {
        errors.extend(texts(&stage["errors"]).map(|text| format!("{name}: {text}")));
        for (level, messages) in stage["recoverable_errors"].as_object().into_iter().flatten() {
            recoverable.extend(texts(messages).map(|text| format!("{name}: {level}: {text}")));
        }
    }
    let Some(result) = result else {
        if errors.is_empty() && !off.is_empty() {
            return Ok(CloudInit::Off { units: off });
        }
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

    fn conclude(lines: &[&str]) -> Conclusion<BootFacts> {
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

    #[test]
    fn a_line_of_jobs_lists_their_units() {
        let jobs = |units: &[&str]| Some(ReportLine::Jobs(units.iter().map(|it| (*it).to_owned()).collect()));
        assert_eq!(
            GuestReport::default().read_line("jobs a.service b.mount"),
            jobs(&["a.service", "b.mount"])
        );
        assert_eq!(GuestReport::default().read_line("jobs"), jobs(&[]));
        let words = "waiting for logins to be allowed (/run/nologin)".to_owned();
        assert_eq!(GuestReport::default().read_line("nologin"), Some(ReportLine::Busy(words)));
    }

    const CLEAN: &str = r#"cloud-init-status {"v1": {"init": {"errors": []}}}"#;
    const BROKEN: &str = r#"cloud-init-status {"v1": {"init-local": {"errors": ["no datasource"]}}}"#;

    /// Without a result: what its units say decides, and an error of its own always counts.
    #[rstest::rstest]
    #[case::all_masked(&["cloud-init-unit cloud-init-local.service masked enabled", "cloud-init-unit cloud-final.service masked enabled"], "running", true)]
    #[case::one_masked(&["cloud-init-unit cloud-init-main.service masked enabled", "cloud-init-unit cloud-final.service enabled enabled"], "running", true)]
    #[case::masked_at_run_time(&["cloud-init-unit cloud-final.service masked-runtime enabled"], "running", true)]
    #[case::disabled(&["cloud-init-unit cloud-config.service disabled enabled"], "running", true)]
    #[case::the_target(&["cloud-init-unit cloud-init.target masked static"], "running", true)]
    #[case::of_the_older_names(&["cloud-init-unit cloud-init.service masked enabled"], "running", true)]
    #[case::the_last_stage_only(&[CLEAN, "cloud-init-unit cloud-final.service masked enabled"], "running", true)]
    #[case::another_unit_failed(&["cloud-init-unit cloud-final.service masked enabled", "failed nginx.service"], "degraded", true)]
    #[case::nothing_known(&[], "running", false)]
    #[case::all_enabled(&["cloud-init-unit cloud-final.service enabled enabled"], "running", false)]
    #[case::only_the_hotplug(&["cloud-init-unit cloud-init-hotplugd.socket masked enabled"], "running", false)]
    #[case::a_unit_of_that_beginning(&["cloud-init-unit cloud-print.service masked enabled"], "running", false)]
    #[case::static_units(&["cloud-init-unit cloud-init.target static -"], "running", false)]
    #[case::it_reported_an_error(&[BROKEN, "cloud-init-unit cloud-final.service masked enabled"], "running", false)]
    #[case::another_stage_failed(&["cloud-init-unit cloud-final.service masked enabled", "failed cloud-init-local.service"], "degraded", false)]
    #[case::a_broken_line(&["cloud-init-unit cloud-final.service"], "running", false)]
    fn a_cloud_init_whose_units_are_switched_off_is_no_failure(
        #[case] lines: &[&str],
        #[case] state: &str,
        #[case] is_off: bool,
    ) {
        let state = format!("state {state}");
        let lines: Vec<_> = [&[BOOT], lines, &[state.as_str()]].concat();
        match conclude(&lines) {
            Conclusion::Settled(BootFacts { cloud_init: CloudInit::Off { units }, .. }) => {
                assert!(is_off && !units.is_empty(), "{units:?}");
            }
            Conclusion::Failed(ReadyError::CloudInit { messages }) => assert!(!is_off, "{messages:?}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_result_counts_whatever_the_units_say() {
        let masked = "cloud-init-unit cloud-final.service masked enabled";
        let facts = settled(&[BOOT, STATUS, RESULT, masked, "state running"]);
        assert!(matches!(facts.cloud_init, CloudInit::Done { .. }), "{facts:?}");
    }

    #[test]
    fn a_login_needs_no_more_than_the_boot() {
        let boot = |lines: &[&str]| {
            let mut report = GuestReport::default();
            lines.iter().for_each(|line| drop(report.read_line(line)));
            report.boot()
        };
        assert!(matches!(boot(&[BOOT]), Conclusion::Settled(_)));
        assert!(matches!(boot(&["state running"]), Conclusion::Busy(_)));
    }
}
