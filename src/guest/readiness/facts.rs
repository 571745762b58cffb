//! What the guest says about itself while it settles: the lines of `settle.sh`, understood. Pure.

use serde_json::Value;

use super::{CloudInit, ReadyError, SystemState};
use crate::guest::BootId;

/// All that is known of a guest that settled.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::guest) struct BootFacts {
    pub(in crate::guest) boot_id: BootId,
    pub(in crate::guest) system: SystemState,
    pub(in crate::guest) cloud_init: CloudInit,
}

/// One line of the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReportLine {
    /// The boot that speaks; always the first.
    Boot(BootId),
    /// What it is busy with, in words.
    Busy(String),
    /// Of use at the end, or not at all.
    Other,
}

/// Collects lines until the last, the state.
#[derive(Debug, Default)]
pub(super) struct GuestReport {
    boot_id: Option<BootId>,
    failed: Vec<String>,
    cloud_init: Option<CloudInit>,
    status: Option<Value>,
    result: Option<Value>,
    state: Option<String>,
}

impl GuestReport {
    pub(super) fn hear(&mut self, line: &str) -> ReportLine {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "boot" => {
                if let Ok(id) = rest.parse::<BootId>() {
                    self.boot_id = Some(id.clone());
                    return ReportLine::Boot(id);
                }
            }
            "jobs" => return ReportLine::Busy(busy_with(rest)),
            "nologin" => return ReportLine::Busy("waiting for logins to be allowed (/run/nologin)".into()),
            "failed" => self.failed.push(rest.to_owned()),
            "cloud-init" if rest == "disabled" => self.cloud_init = Some(CloudInit::Disabled),
            "cloud-init" if rest == "absent" => self.cloud_init = Some(CloudInit::Absent),
            "cloud-init-status" => self.status = serde_json::from_str(rest).ok(),
            "cloud-init-result" => self.result = serde_json::from_str(rest).ok(),
            "state" => self.state = Some(rest.to_owned()),
            _ => {}
        }
        ReportLine::Other
    }

    /// What the whole account amounts to: settled, not yet (and why), or never.
    pub(super) fn conclude(self) -> Result<Result<BootFacts, String>, ReadyError> {
        let (Some(boot_id), Some(state)) = (self.boot_id, self.state) else {
            return Ok(Err("the guest's account of itself broke off".into()));
        };
        let system = match state.as_str() {
            "running" => SystemState::Running,
            "degraded" => SystemState::Degraded(self.failed),
            "maintenance" => return Err(ReadyError::Maintenance),
            other => {
                let state = if other.is_empty() { "nothing" } else { other };
                return Ok(Err(format!("`systemctl is-system-running` says {state}")));
            }
        };
        let cloud_init = match self.cloud_init {
            Some(known) => known,
            None => judge_cloud_init(self.status.as_ref(), self.result.as_ref())
                .map_err(|messages| ReadyError::CloudInit { messages })?,
        };
        Ok(Ok(BootFacts { boot_id, system, cloud_init }))
    }
}

/// The jobs that run, in a few words.
fn busy_with(units: &str) -> String {
    const SHOWN: usize = 4;
    let units: Vec<&str> = units.split_whitespace().collect();
    if units.is_empty() {
        return "waiting for the boot to end".into();
    }
    if units.iter().any(|unit| unit.starts_with("cloud-")) {
        return "SSH answers, waiting for cloud-init".into();
    }
    let more = if units.len() > SHOWN { format!(" and {} more", units.len() - SHOWN) } else { String::new() };
    format!("waiting for units: {}{more}", units.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "))
}

/// `status.json` and `result.json` as cloud-init documents them (reference, "Status and result files").
fn judge_cloud_init(status: Option<&Value>, result: Option<&Value>) -> Result<CloudInit, Vec<String>> {
    let stages = status.and_then(|status| status["v1"].as_object());
    let stages = stages.into_iter().flatten().filter(|(_, stage)| stage.is_object());
    let (mut errors, mut recoverable) = (Vec::new(), Vec::new());
    for (name, stage) in stages {
        errors.extend(texts(&stage["errors"]).map(|text| format!("{name}: {text}")));
        for (level, messages) in stage["recoverable_errors"].as_object().into_iter().flatten() {
            recoverable.extend(texts(messages).map(|text| format!("{name}: {level}: {text}")));
        }
    }
    let Some(result) = result else {
        errors.push("it left no /run/cloud-init/result.json though the boot is over".into());
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
    const FINE: &str = r#"cloud-init-status {"v1": {"datasource": "DataSourceNoCloud", "stage": null,
        "init": {"errors": [], "finished": 2.0, "recoverable_errors": {}, "start": 1.0},
        "modules-final": {"errors": [], "recoverable_errors": {"WARNING": ["odd key"]}}}}"#;
    const RESULT: &str = r#"cloud-init-result {"v1": {"datasource": "DataSourceNoCloud", "errors": []}}"#;

    fn account(lines: &[&str]) -> Result<Result<BootFacts, String>, ReadyError> {
        let mut account = GuestReport::default();
        for line in lines {
            account.hear(line);
        }
        account.conclude()
    }

    #[test]
    fn a_settled_guest_tells_its_boot_its_state_and_what_cloud_init_swallowed() {
        let facts = account(&[BOOT, "jobs a.service", FINE, RESULT, "failed x.service", "state degraded"]);
        let facts = facts.unwrap().unwrap();
        assert_eq!(facts.boot_id.short(), "3fe1ac58");
        assert_eq!(facts.system, SystemState::Degraded(vec!["x.service".into()]));
        let recoverable = vec!["modules-final: WARNING: odd key".into()];
        assert_eq!(facts.cloud_init, CloudInit::Done { recoverable });
    }

    #[rstest::rstest]
    #[case(&["cloud-init absent"], CloudInit::Absent)]
    #[case(&["cloud-init disabled"], CloudInit::Disabled)]
    #[case(&[RESULT], CloudInit::Done { recoverable: vec![] })]
    fn no_cloud_init_is_no_error(#[case] lines: &[&str], #[case] expected: CloudInit) {
        let lines: Vec<_> =
            [BOOT].into_iter().chain(lines.iter().copied()).chain(["state running"]).collect();
        let facts = account(&lines).unwrap().unwrap();
        assert_eq!((facts.system, facts.cloud_init), (SystemState::Running, expected));
    }

    #[test]
    fn an_error_of_cloud_init_is_told_once_with_its_stage() {
        let status = r#"cloud-init-status {"v1": {"init": {"errors": ["resizefs failed"]}}}"#;
        let result = r#"cloud-init-result {"v1": {"errors": ["resizefs failed"]}}"#;
        let error = account(&[BOOT, status, result, "state degraded"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cloud-init failed in the guest (see /var/log/cloud-init.log there): init: resizefs failed"
        );
    }

    #[test]
    fn a_boot_that_is_over_without_a_result_of_cloud_init_is_an_error() {
        let error = account(&[BOOT, FINE, "state running"]).unwrap_err();
        assert!(matches!(error, ReadyError::CloudInit { .. }), "{error:?}");
    }

    #[rstest::rstest]
    #[case(&[BOOT, "state stopping"], "`systemctl is-system-running` says stopping")]
    #[case(&[BOOT, "state "], "`systemctl is-system-running` says nothing")]
    #[case(&[BOOT, RESULT], "the guest's account of itself broke off")]
    #[case(&[RESULT, "state running"], "the guest's account of itself broke off")]
    fn anything_short_of_settled_is_not_yet(#[case] lines: &[&str], #[case] reason: &str) {
        assert_eq!(account(lines).unwrap().unwrap_err(), reason);
    }

    #[test]
    fn emergency_mode_is_never_ready() {
        assert!(matches!(account(&[BOOT, "state maintenance"]), Err(ReadyError::Maintenance)));
    }

    #[rstest::rstest]
    #[case("jobs", "waiting for the boot to end")]
    #[case("jobs docker.service caddy.service", "waiting for units: docker.service, caddy.service")]
    #[case("jobs a b c d e f", "waiting for units: a, b, c, d and 2 more")]
    #[case("jobs cloud-final.service x.service", "SSH answers, waiting for cloud-init")]
    #[case("nologin", "waiting for logins to be allowed (/run/nologin)")]
    fn what_it_is_busy_with_is_said_in_words(#[case] line: &str, #[case] words: &str) {
        assert_eq!(GuestReport::default().hear(line), ReportLine::Busy(words.into()));
    }
}
