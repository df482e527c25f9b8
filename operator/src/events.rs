//! Kubernetes events for what users should hear of.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use operator_plan::conditions::{Notice, Severity};

use crate::context::Context;

/// The API server takes notes of up to 1024 bytes.
const NOTE_BYTES_MAX: usize = 1000;

/// Publishes the notices. A lost event is logged and nothing else: events are for people.
pub(crate) async fn publish(context: &Context, about: &ObjectReference, notices: &[Notice]) {
    for notice in notices {
        let mut note = notice.message.clone();
        while note.len() > NOTE_BYTES_MAX {
            note.pop();
        }
        tracing::info!(object = ?about.name, reason = %notice.reason, "{note}");
        let event = Event {
            type_: match notice.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: notice.reason.clone(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = context.recorder.publish(&event, about).await {
            tracing::warn!(%error, "cannot publish an event");
        }
    }
}
