//! Regions, networks and endpoints.

use std::{fmt, str::FromStr};

use reqwest::Url;
use zeroize::Zeroizing;

/// A region id such as `cn-hangzhou`: `^([a-z]{2}|rus)(-[a-z0-9]+){1,4}$`, at most 64 characters.
///
/// It becomes part of a host name that receives passwords and tokens. So the rule of the CRD is checked again
/// here: no character can end or change the host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(String);

/// The value is no region id. The error does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no region id: write it as in cn-hangzhou, in lower case, at most 64 characters")]
pub struct InvalidRegion;

impl Region {
    /// The maximum length in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Parses an id. Does not trim or lower-case it.
    ///
    /// # Errors
    /// [`InvalidRegion`] if the value does not match the rule.
    pub fn parse(value: &str) -> Result<Self, InvalidRegion> {
        let mut parts = value.split('-');
        let area = parts.next().unwrap_or_default();
        // All areas have two letters, except `rus`. A longer one may be the host of another product:
        // `oss-cn-hangzhou`.
        let area_fits = area.len() == 2 && area.bytes().all(|b| b.is_ascii_lowercase()) || area == "rus";
        let place_fits = (1..=4).contains(&parts.clone().count())
            && parts.all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
        if area_fits && place_fits && value.len() <= Self::MAX_LENGTH {
            Ok(Self(value.to_owned()))
        } else {
            Err(InvalidRegion)
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

/// The network of the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// Endpoints on the internet.
    #[default]
    Public,
    /// Endpoints inside a VPC, reachable without internet access.
    Vpc,
}

/// Scheme, host and port of a server, for example `https://ecs.cn-beijing.aliyuncs.com`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    authority: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

/// Why a value is no endpoint. The error does not contain the value, because a URL may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It does not parse as a URL.
    #[error("is no URL: write it in full, as in https://ecs.example.com")]
    Url,
    /// It has another scheme.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// It is not a bare host name.
    #[error("must be a bare host name, as in sts.cn-hangzhou.aliyuncs.com: no scheme, no port, no path")]
    Host,
    /// It has a user, a path, a query or a fragment.
    #[error("must be scheme, host and port only: no user, no path, no query, no fragment")]
    Extra,
}

impl Endpoint {
    /// The ECS endpoint of a region.
    ///
    /// In a VPC this is always `ecs-vpc.<region>.aliyuncs.com`: the exceptions for old regions, taken from
    /// the official SDK, are public hosts only.
    #[must_use]
    pub fn of(region: &Region, network: Network) -> Self {
        let region = region.as_str();
        let authority = match network {
            Network::Public => match special_public_host(region) {
                Some(host) => host.to_owned(),
                None => format!("ecs.{region}.aliyuncs.com"),
            },
            Network::Vpc => format!("ecs-vpc.{region}.aliyuncs.com"),
        };
        Self { scheme: Scheme::Https, authority }
    }

    /// The STS endpoint of a region. Without a region it is the global endpoint `sts.aliyuncs.com`, whose
    /// tokens are valid in every region. The global endpoint has no VPC variant.
    #[must_use]
    pub fn of_sts(region: Option<&Region>, network: Network) -> Self {
        let authority = match (region, network) {
            (Some(region), Network::Public) => format!("sts.{region}.aliyuncs.com"),
            (Some(region), Network::Vpc) => format!("sts-vpc.{region}.aliyuncs.com"),
            (None, _) => "sts.aliyuncs.com".to_owned(),
        };
        Self { scheme: Scheme::Https, authority }
    }

    /// The ECS metadata service: `http://100.100.100.200`, a link-local connection of the instance to its
    /// host.
    #[must_use]
    pub fn metadata() -> Self {
        Self { scheme: Scheme::Http, authority: "100.100.100.200".to_owned() }
    }

    /// Parses a bare host name, to be called by https.
    ///
    /// # Errors
    /// [`InvalidEndpoint::Host`] if the value is not a bare host name.
    pub fn host(host: &str) -> Result<Self, InvalidEndpoint> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(InvalidEndpoint::Host);
        }
        let endpoint = Self::parse(&format!("https://{host}")).map_err(|_| InvalidEndpoint::Host)?;
        // The URL parser reads some names as IP addresses, for example `0x7f.1`.
        if endpoint.authority.eq_ignore_ascii_case(host) { Ok(endpoint) } else { Err(InvalidEndpoint::Host) }
    }

    /// Parses a full URL that replaces the endpoints of all regions, for example of an emulator or a gateway.
    ///
    /// # Errors
    /// See [`InvalidEndpoint`].
    pub fn parse(url: &str) -> Result<Self, InvalidEndpoint> {
        let url = Url::parse(url).map_err(|_| InvalidEndpoint::Url)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidEndpoint::Scheme),
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err(InvalidEndpoint::Extra);
        }
        let host = url.host_str().ok_or(InvalidEndpoint::Url)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self { scheme, authority })
    }

    /// The host, and the port unless it is the default port of the scheme: the `Host` header, which is
    /// signed.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL of a path. `path` begins with a slash.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// The URL of a call. The query may contain the VNC password, so the memory is overwritten on drop.
    pub(super) fn url(&self, query: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{self}/?{query}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Self::parse(url)
    }
}

/// Regions whose public host is not `ecs.<region>.aliyuncs.com`.
///
/// Source: the endpoint map of the official SDK, `alibabacloud-ecs20140526` 7.11.8 on `PyPI`.
fn special_public_host(region: &str) -> Option<&'static str> {
    match region {
        "cn-beijing-nu16-b01"
        | "cn-fujian"
        | "cn-haidian-cm12-c01"
        | "cn-hangzhou"
        | "cn-hangzhou-bj-b01"
        | "cn-hangzhou-internal-prod-1"
        | "cn-hangzhou-internal-test-1"
        | "cn-hangzhou-internal-test-2"
        | "cn-hangzhou-internal-test-3"
        | "cn-hangzhou-test-306"
        | "cn-shanghai-et15-b01"
        | "cn-shanghai-et2-b01"
        | "cn-shanghai-finance-1"
        | "cn-shanghai-internal-test-1"
        | "cn-shenzhen-finance-1"
        | "cn-shenzhen-st4-d01"
        | "cn-shenzhen-su18-b01"
        | "cn-zhangbei-na61-b01" => Some("ecs-cn-hangzhou.aliyuncs.com"),
        "ap-northeast-2-pop"
        | "cn-beijing-finance-pop"
        | "cn-beijing-gov-1"
        | "cn-hangzhou-finance"
        | "cn-hongkong-finance-pop"
        | "cn-north-2-gov-1"
        | "cn-shanghai-inner"
        | "cn-shenzhen-inner"
        | "cn-wuhan"
        | "cn-yushanfang"
        | "cn-zhangbei"
        | "rus-west-1-pop" => Some("ecs.aliyuncs.com"),
        "cn-edge-1" | "cn-huhehaote-nebula-1" | "cn-zhengzhou-nebula-1" => {
            Some("ecs.cn-qingdao-nebula.aliyuncs.com")
        }
        "cn-zhangjiakou-na62-a01" => Some("ecs.cn-zhangjiakou.aliyuncs.com"),
        "eu-west-1-oxs" => Some("ecs.cn-shenzhen-cloudstone.aliyuncs.com"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_region_ids_are_regions() {
        let longest = format!("cn-{}", "a".repeat(61));
        for id in ["cn-hangzhou", "eu-central-1", "cn-hangzhou-internal-test-1", "rus-west-1-pop", &longest] {
            assert_eq!(Region::parse(id).unwrap().as_str(), id);
        }
        let overlong = format!("{longest}a");
        let wrong = [
            "",
            "-",
            "cn",
            "cn-",
            "cn--x",
            "c-x",
            "china-east",
            "oss-cn-hangzhou",
            "img-cn-hangzhou",
            "oss-accelerate",
            "rus",
            "russ-west-1",
            "c1-x",
            "-cn-x",
            "cn-a-b-c-d-e",
            "CN-HANGZHOU",
            "cn-Hangzhou",
            "cn-hangzhou ",
            "cn-hangzhou\n",
            "cn-hangzhou.",
            "cn-x.example.com/?",
            "x.example.com/?",
            "cn-x#",
            "cn-x@evil",
            "cn-x:443",
            "cn-x%2e",
            "cn-hängzhou",
            &overlong,
        ];
        for value in wrong {
            assert_eq!(Region::parse(value), Err(InvalidRegion), "{value:?}");
        }
    }

    #[test]
    fn each_network_has_its_hosts() {
        let table = [
            ("cn-beijing", Network::Public, "ecs.cn-beijing.aliyuncs.com"),
            ("cn-beijing", Network::Vpc, "ecs-vpc.cn-beijing.aliyuncs.com"),
            ("cn-hangzhou", Network::Public, "ecs-cn-hangzhou.aliyuncs.com"),
            ("cn-hangzhou", Network::Vpc, "ecs-vpc.cn-hangzhou.aliyuncs.com"),
            ("cn-shenzhen-finance-1", Network::Public, "ecs-cn-hangzhou.aliyuncs.com"),
            ("cn-north-2-gov-1", Network::Public, "ecs.aliyuncs.com"),
            ("cn-edge-1", Network::Public, "ecs.cn-qingdao-nebula.aliyuncs.com"),
            ("cn-zhangjiakou-na62-a01", Network::Public, "ecs.cn-zhangjiakou.aliyuncs.com"),
            ("eu-west-1-oxs", Network::Public, "ecs.cn-shenzhen-cloudstone.aliyuncs.com"),
            ("cn-future-9", Network::Public, "ecs.cn-future-9.aliyuncs.com"),
        ];
        for (region, network, host) in table {
            let endpoint = Endpoint::of(&Region::parse(region).unwrap(), network);
            assert_eq!(endpoint.to_string(), format!("https://{host}"), "{region} {network:?}");
        }
    }

    #[test]
    fn an_endpoint_url_is_scheme_host_and_port() {
        let table = [
            ("http://127.0.0.1:8080", Ok("127.0.0.1:8080")),
            ("http://127.0.0.1:80/", Ok("127.0.0.1")),
            ("https://ECS.example.com:443", Ok("ecs.example.com")),
            ("https://[::1]:8443", Ok("[::1]:8443")),
            ("ecs.example.com", Err(InvalidEndpoint::Url)),
            ("", Err(InvalidEndpoint::Url)),
            ("http://", Err(InvalidEndpoint::Url)),
            ("ftp://example.com", Err(InvalidEndpoint::Scheme)),
            ("https://user:word@example.com", Err(InvalidEndpoint::Extra)),
            ("https://example.com/path", Err(InvalidEndpoint::Extra)),
            ("https://example.com/?a=b", Err(InvalidEndpoint::Extra)),
            ("https://example.com/#top", Err(InvalidEndpoint::Extra)),
        ];
        for (url, expected) in table {
            let endpoint = Endpoint::parse(url);
            assert_eq!(endpoint.as_ref().map(Endpoint::authority), expected.as_ref().copied(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn every_id_that_matches_the_pattern_is_a_region(id in "([a-z]{2}|rus)(-[a-z0-9]{1,9}){1,4}") {
            prop_assert!(Region::parse(&id).is_ok());
        }

        #[test]
        fn an_accepted_region_cannot_change_the_host_name(value in "[a-z]{1,5}[-a-z0-9./?#@:% ]{0,12}") {
            if let Ok(region) = Region::parse(&value) {
                for network in [Network::Public, Network::Vpc] {
                    let url = Url::parse(&Endpoint::of(&region, network).url("a=b")).unwrap();
                    prop_assert!(url.host_str().is_some_and(|host| host.ends_with(".aliyuncs.com")));
                    prop_assert_eq!(url.path(), "/");
                    prop_assert_eq!(url.query(), Some("a=b"));
                }
            }
        }
    }
}
