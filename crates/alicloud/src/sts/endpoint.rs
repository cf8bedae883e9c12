//! The choice of the STS endpoint: a flag, else the variables of the official SDKs, else region and network.

use crate::{
    endpoint::{Endpoint, InvalidEndpoint, InvalidRegion, Network, Region},
    variables::{NotUtf8, Variables},
};

/// The variable with the host name of the endpoint, called by https.
pub const STS_ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
/// The variable with the region of the STS endpoint.
pub const STS_REGION: &str = "ALIBABA_CLOUD_STS_REGION";
/// The variable that selects the VPC endpoint, if it is `true`.
pub const VPC_ENDPOINT_ENABLED: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";

/// The choice of the STS endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsEndpoint {
    /// Takes precedence over everything else, including profiles.
    explicit: Option<Endpoint>,
    region: Option<Region>,
    network: Network,
}

/// An invalid variable. The error names the variable and does not contain its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStsVariable {
    /// It is not valid UTF-8.
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    /// `ALIBABA_CLOUD_STS_ENDPOINT`.
    #[error("{STS_ENDPOINT} {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// `ALIBABA_CLOUD_STS_REGION`.
    #[error("{STS_REGION} {0}")]
    Region(#[from] InvalidRegion),
}

impl StsEndpoint {
    /// Always uses this endpoint.
    #[must_use]
    pub fn explicit(endpoint: Endpoint) -> Self {
        Self { explicit: Some(endpoint), region: None, network: Network::Public }
    }

    /// Reads the variables. `flag`, `region` and `network` are settings of the program. The VPC endpoint is
    /// used if `network` or the variable asks for it.
    ///
    /// # Errors
    /// [`InvalidStsVariable`] for an invalid variable, unless the flag is set.
    pub fn read(
        flag: Option<Endpoint>,
        region: Option<Region>,
        network: Network,
        variables: Variables<'_>,
    ) -> Result<Self, InvalidStsVariable> {
        if let Some(endpoint) = flag {
            return Ok(Self::explicit(endpoint));
        }
        let explicit = variables.text(STS_ENDPOINT)?.map(|host| Endpoint::host(&host)).transpose()?;
        let sts_region = variables.text(STS_REGION)?.map(|region| Region::parse(&region)).transpose()?;
        let network = if variables.flag(VPC_ENDPOINT_ENABLED) { Network::Vpc } else { network };
        Ok(Self { explicit, region: sts_region.or(region), network })
    }

    /// Returns the choice with the region and network of a profile. An explicit endpoint stays.
    #[must_use]
    pub fn for_profile(&self, region: Option<Region>, vpc: bool) -> Self {
        Self {
            explicit: self.explicit.clone(),
            region: region.or_else(|| self.region.clone()),
            network: if vpc { Network::Vpc } else { self.network },
        }
    }

    /// The chosen endpoint.
    #[must_use]
    pub fn resolve(&self) -> Endpoint {
        self.explicit.clone().unwrap_or_else(|| Endpoint::of_sts(self.region.as_ref(), self.network))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use proptest::prelude::*;

    use super::*;

    /// The flag, the region and network of the program, and the three variables.
    type Case<'a> = (&'a str, &'a str, Network, [&'a str; 3]);

    fn outcome((flag, region, network, values): Case<'_>) -> Result<String, InvalidStsVariable> {
        let lookup = |name: &str| {
            let position =
                [STS_ENDPOINT, STS_REGION, VPC_ENDPOINT_ENABLED].iter().position(|known| *known == name);
            position.map(|position| OsString::from(values[position]))
        };
        let flag = (!flag.is_empty()).then(|| Endpoint::parse(flag).unwrap());
        let region = Region::parse(region).ok();
        StsEndpoint::read(flag, region, network, Variables::new(&lookup))
            .map(|choice| choice.resolve().to_string())
    }

    #[test]
    fn the_more_explicit_setting_wins() {
        use Network::{Public, Vpc};

        let table: [(Case<'_>, Result<&str, InvalidStsVariable>); 17] = [
            (("", "", Public, ["", "", ""]), Ok("https://sts.aliyuncs.com")),
            (("", "", Vpc, ["", "", ""]), Ok("https://sts.aliyuncs.com")),
            (("", "cn-beijing", Public, ["", "", ""]), Ok("https://sts.cn-beijing.aliyuncs.com")),
            (("", "cn-beijing", Vpc, ["", "", ""]), Ok("https://sts-vpc.cn-beijing.aliyuncs.com")),
            (("", "cn-beijing", Public, ["", "", "true"]), Ok("https://sts-vpc.cn-beijing.aliyuncs.com")),
            (("", "cn-beijing", Public, ["", "", "TRUE"]), Ok("https://sts-vpc.cn-beijing.aliyuncs.com")),
            (("", "cn-beijing", Vpc, ["", "", "false"]), Ok("https://sts-vpc.cn-beijing.aliyuncs.com")),
            (("", "cn-beijing", Public, ["", "cn-wuhan-lr", ""]), Ok("https://sts.cn-wuhan-lr.aliyuncs.com")),
            (("", "", Vpc, ["", "cn-wuhan-lr", ""]), Ok("https://sts-vpc.cn-wuhan-lr.aliyuncs.com")),
            (
                ("", "cn-beijing", Vpc, ["sts.example.com", "cn-wuhan-lr", "true"]),
                Ok("https://sts.example.com"),
            ),
            (("", "", Public, ["STS.Example.com", "", ""]), Ok("https://sts.example.com")),
            (
                ("http://127.0.0.1:8080", "cn-beijing", Vpc, ["x/y", "CN", "true"]),
                Ok("http://127.0.0.1:8080"),
            ),
            (("", "", Public, ["https://x.com", "", ""]), Err(InvalidEndpoint::Host.into())),
            (("", "", Public, ["x.com:443", "", ""]), Err(InvalidEndpoint::Host.into())),
            (("", "", Public, ["x.com/path", "", ""]), Err(InvalidEndpoint::Host.into())),
            (("", "", Public, ["", "x.example.com/?", ""]), Err(InvalidRegion.into())),
            (("", "cn-beijing", Public, ["", "CN", ""]), Err(InvalidRegion.into())),
        ];
        for (case, expected) in table {
            assert_eq!(outcome(case), expected.map(str::to_owned), "{case:?}");
        }
    }

    #[test]
    fn only_a_bare_host_name_is_accepted() {
        let overlong = "a".repeat(64);
        for host in [
            "",
            ".",
            "a..b",
            "a.",
            "-a",
            "a-",
            "a b",
            "a@b",
            "user:word@a",
            "a?b",
            "a#b",
            "a%2eb",
            "ä.com",
            "[::1]",
            "0x7f.1",
            "a\\b",
            "a\nb",
            &overlong,
        ] {
            assert_eq!(Endpoint::host(host), Err(InvalidEndpoint::Host), "{host:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_host_cannot_change_the_url(host in "[a-zA-Z0-9.:/?#@%\\[\\] _-]{1,12}|\\PC{0,6}") {
            if let Ok(endpoint) = Endpoint::host(&host) {
                let url = reqwest::Url::parse(&endpoint.path("/?a=b")).unwrap();
                let lower = host.to_ascii_lowercase();
                prop_assert_eq!(url.host_str(), Some(lower.as_str()));
                prop_assert_eq!((url.scheme(), url.port(), url.path(), url.query()), ("https", None, "/", Some("a=b")));
            }
        }
    }

    #[test]
    fn a_profile_cannot_replace_an_explicit_endpoint() {
        let region = Region::parse("cn-beijing").ok();
        let chosen = StsEndpoint { explicit: None, region: None, network: Network::Public };
        let resolved = chosen.for_profile(region.clone(), true).resolve();
        assert_eq!(resolved.to_string(), "https://sts-vpc.cn-beijing.aliyuncs.com");
        let explicit = StsEndpoint::explicit(Endpoint::metadata());
        assert_eq!(explicit.for_profile(region, true).resolve(), Endpoint::metadata());
    }
}
