//! What all Kinesis sinks of a process share: credentials and clients by region, certificates, proxies.

use std::{collections::BTreeMap, io, sync::Arc};

use relay_kvs::{Cloud, Network};
use tokio::{sync::Mutex, task::spawn_blocking};

/// AWS regions with our credentials for them; cloned freely. Nothing is read before the first sink runs.
#[derive(Clone, Debug, Default)]
pub struct KvsClouds(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    network: Option<Network>,
    clouds: BTreeMap<Option<String>, Arc<Cloud>>,
}

impl KvsClouds {
    /// With these credentials for a region, in place of what the standard chain gives there.
    pub fn with_cloud(region: impl Into<String>, cloud: Arc<Cloud>) -> Self {
        let known = Known { clouds: BTreeMap::from([(Some(region.into()), cloud)]), ..Known::default() };
        Self(Arc::new(Mutex::new(known)))
    }

    /// The region of this name, or that of the environment or profile; and the way there.
    pub(super) async fn of(&self, region: Option<String>) -> io::Result<(Arc<Cloud>, Network)> {
        let mut known = self.0.lock().await;
        // Both read the system's certificates.
        let network = match &known.network {
            Some(network) => network.clone(),
            None => spawn_blocking(Network::system).await??,
        };
        known.network = Some(network.clone());
        if let Some(cloud) = known.clouds.get(&region) {
            return Ok((cloud.clone(), network));
        }
        let of = region.clone();
        let cloud = spawn_blocking(|| Cloud::new(of)).await?;
        known.clouds.insert(region, cloud.clone());
        Ok((cloud, network))
    }
}
