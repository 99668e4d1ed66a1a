//! Which method and path stands for which RPC.

use http::Method;
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use tonic::Status;

use super::POOL;
use super::refusal::{PATH_UNKNOWN, Refused};

/// The package of every RPC here.
const PACKAGE: &str = "greffe.archive.v1";

/// A route.
#[derive(Debug)]
pub(super) struct Route {
    /// GET or POST.
    pub(super) method: &'static str,
    /// Path; a part in braces is the field of that JSON name.
    pub(super) path: &'static str,
    /// Service and RPC.
    pub(super) rpc: (&'static str, &'static str),
    /// The message is the body; otherwise its fields are parameters.
    pub(super) body: bool,
}

const fn get(path: &'static str, service: &'static str, rpc: &'static str) -> Route {
    Route {
        method: "GET",
        path,
        rpc: (service, rpc),
        body: false,
    }
}

const fn post(path: &'static str, service: &'static str, rpc: &'static str) -> Route {
    Route {
        method: "POST",
        path,
        rpc: (service, rpc),
        body: true,
    }
}

/// Every route. RPCs that stream ciphertext are not among them.
pub(super) const ROUTES: [Route; 11] = [
    get("/v1/records", "ArchiveService", "SearchRecords"),
    get("/v1/records/{digest}", "ArchiveService", "GetRecord"),
    get(
        "/v1/conversations/{conversation}/range",
        "ArchiveService",
        "GetRange",
    ),
    get("/v1/matters", "ArchiveService", "ListMatters"),
    get("/v1/reads", "ArchiveService", "ListReads"),
    get(
        "/v1/keys/{keyId}/unused",
        "ArchiveService",
        "ConfirmKeyUnused",
    ),
    post("/v1/acts", "ArchiveService", "Act"),
    get("/v1/orders", "OrderService", "ListOrders"),
    post("/v1/orders", "OrderService", "FileOrder"),
    get("/v1/orders/{order}", "OrderService", "GetOrder"),
    post("/v1/approvals", "OrderService", "ApproveOrder"),
];

impl Route {
    /// The RPC's descriptor.
    pub(super) fn descriptor(&self) -> Option<MethodDescriptor> {
        let service = POOL.get_service_by_name(&format!("{PACKAGE}.{}", self.rpc.0))?;
        service.methods().find(|method| method.name() == self.rpc.1)
    }

    /// As the access rules name it.
    pub(super) fn path_of_rpc(&self) -> String {
        format!("/{PACKAGE}.{}/{}", self.rpc.0, self.rpc.1)
    }

    /// What is sent.
    pub(super) fn input(&self) -> Result<MessageDescriptor, Status> {
        let method = self.descriptor().ok_or_else(|| PATH_UNKNOWN.refuse())?;
        Ok(method.input())
    }

    /// What comes back.
    pub(super) fn output(&self) -> Result<MessageDescriptor, Status> {
        let method = self.descriptor().ok_or_else(|| PATH_UNKNOWN.refuse())?;
        Ok(method.output())
    }

    /// The fields of the path when it is this route's.
    fn fields(&self, path: &str) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        let mut given = path.split('/');
        for part in self.path.split('/') {
            let given = given.next()?;
            match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                Some(field) if !given.is_empty() => {
                    let value = percent_encoding::percent_decode_str(given);
                    fields.push((field.to_owned(), value.decode_utf8().ok()?.into_owned()));
                }
                Some(_) => return None,
                None if part == given => {}
                None => return None,
            }
        }
        given.next().is_none().then_some(fields)
    }
}

/// A request's route, and the fields of its path.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) route: &'static Route,
    pub(super) fields: Vec<(String, String)>,
}

/// Finds the route of a request.
pub(super) fn find(method: &Method, path: &str) -> Result<Matched, Refused> {
    static TABLE: [Route; ROUTES.len()] = ROUTES;
    let mut allowed = Vec::new();
    for route in &TABLE {
        if let Some(fields) = route.fields(path) {
            if route.method == method.as_str() {
                return Ok(Matched { route, fields });
            }
            allowed.push(route.method);
        }
    }
    if path == super::DESCRIPTION {
        allowed.push("GET");
    }
    if allowed.is_empty() {
        return Err(PATH_UNKNOWN.refuse().into());
    }
    Err(Refused::method(&allowed))
}

/// The parameters behind the question mark.
pub(super) fn query(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_an_rpc_that_answers_once_and_has_the_fields_of_its_path() {
        for route in &ROUTES {
            let rpc = route.descriptor().unwrap();
            assert!(!rpc.is_client_streaming() && !rpc.is_server_streaming());
            for part in route.path.split('/').filter_map(|p| p.strip_prefix('{')) {
                let field = part.trim_end_matches('}');
                assert!(
                    rpc.input().get_field_by_json_name(field).is_some(),
                    "{field}"
                );
            }
        }
    }

    #[test]
    fn every_rpc_of_people_that_answers_once_has_a_route() {
        for service in ["ArchiveService", "OrderService"] {
            let service = POOL.get_service_by_name(&format!("{PACKAGE}.{service}"));
            for rpc in service.unwrap().methods() {
                let routed = ROUTES.iter().any(|route| route.rpc.1 == rpc.name());
                assert_eq!(routed, !rpc.is_server_streaming(), "{}", rpc.name());
            }
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let found = |method: &Method, path: &str| find(method, path).map(|m| m.fields);
        let digest = vec![("digest".to_owned(), "a/b".to_owned())];
        assert_eq!(found(&Method::GET, "/v1/records/a%2Fb").unwrap(), digest);
        assert_eq!(found(&Method::GET, "/v1/records").unwrap(), []);
        for path in ["/", "/v1/records/", "/v1/records/a/b", "/v2/records", "/v1"] {
            assert_eq!(found(&Method::GET, path).unwrap_err().http(), 404, "{path}");
        }
        let refused = found(&Method::DELETE, "/v1/orders").unwrap_err();
        assert_eq!((refused.http(), refused.allow()), (405, "GET, POST"));
    }
}
