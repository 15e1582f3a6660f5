//! The control plane, as far as a producer needs it; and the credentials endpoint of a container.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Shared, sign::Refusal, wire::Head};
use crate::locked;

/// The JSON that answers a call.
pub(super) fn answer(shared: &Shared, head: &Head, body: &[u8]) -> Result<String, Refusal> {
    let mut world = locked(&shared.world);
    if head.path == "/credentials" {
        return Ok(world.give_credentials());
    }
    world.admit(head, body)?;
    let invalid = |what: &str| Refusal::new(400, "InvalidArgumentException", what);
    let asked: Value = serde_json::from_slice(body).map_err(|_| invalid("no JSON"))?;
    let text = |name: &str| asked.get(name).and_then(Value::as_str).map(str::to_owned);
    // `arn:aws:kinesisvideo:REGION:ACCOUNT:stream/NAME/TIME`
    let name = match (text("StreamName"), text("StreamARN")) {
        (Some(name), None) => name,
        (None, Some(arn)) => arn.split('/').nth(1).unwrap_or_default().to_owned(),
        _ => return Err(invalid("one of StreamName and StreamARN must be given")),
    };
    let arn = format!("arn:aws:kinesisvideo:eu-west-1:123456789012:stream/{name}/1600000000000");
    let said = match head.path.as_str() {
        "/getDataEndpoint" if text("APIName").as_deref() == Some("PUT_MEDIA") => {
            json!({"DataEndpoint": world.data_endpoint(&name, Instant::now())?})
        }
        "/getDataEndpoint" => return Err(invalid("APIName is not PUT_MEDIA")),
        "/describeStream" => json!({"StreamInfo": {
            "StreamName": name,
            "StreamARN": arn,
            "Status": "ACTIVE",
            "Version": "simulated",
            "CreationTime": 1_600_000_000.0,
            "DataRetentionInHours": world.retention_hours(&name)?,
        }}),
        "/createStream" => {
            world.create(&name, asked.to_string())?;
            json!({"StreamARN": arn})
        }
        "/tagStream" => {
            world.retention_hours(&name)?;
            json!({})
        }
        path => return Err(Refusal::new(404, "UnknownOperationException", path)),
    };
    Ok(said.to_string())
}
