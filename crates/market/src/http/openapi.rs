//! The description of the API. Paths and bodies come from the handlers themselves; here is what
//! all of them share: who may ask, how a problem looks, and the idempotency key.

use sublet_wire::api::IDEMPOTENCY_KEY;
use sublet_wire::problem::Problem;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};

/// POSTs that must carry an idempotency key.
pub const NEEDS_KEY: [&str; 10] = [
    "/v1/accounts",
    "/v1/members",
    "/v1/tokens",
    "/v1/join-tokens",
    "/v1/images",
    "/v1/leases",
    "/v1/leases/{lease}/extend",
    "/v1/accounts/{account}/deposits",
    "/v1/accounts/{account}/refunds",
    "/v1/disputes",
];
/// POSTs that may.
const TAKES_KEY: [&str; 3] =
    ["/v1/leases/{lease}/release", "/v1/hosts/{host}/reset-session", "/v1/disputes/{dispute}/resolve"];

/// What stands before the paths.
pub fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Sublet market")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Rents logical partitions of computers. Amounts are integers with their unit in the field's description: \
             millicores, MiB, GiB, seconds, micros (millionths of the currency), microseconds since 1970. \
             Every answer that is no success is a problem (RFC 9457) with a stable type.",
        ))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// The whole description, once every path is in it.
pub fn finished(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_with(Components::new);
    add_schemes(components);
    components.schemas.insert("Problem".into(), Problem::schema());
    let mut more = Vec::new();
    Problem::schemas(&mut more);
    components.schemas.extend(more);
    api.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            describe(operation);
            add_problem(operation);
        }
        if let Some(post) = item.post.as_mut() {
            add_key(path, post);
        }
    }
    api
}

fn add_schemes(components: &mut Components) {
    let bearer = |words: &str| {
        let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(words)).build();
        RefOr::T(SecurityScheme::Http(http))
    };
    let mac = ApiKeyValue::with_description("sublet-mac", "Proves a host's sync, with its session and number.");
    let schemes = &mut components.security_schemes;
    schemes.insert("token".into(), bearer("An API token: sublet_ and 43 letters."));
    schemes
        .insert("join_token".into(), bearer("A join token: sublet_join_ and 43 letters; opens nothing but joining."));
    schemes.insert("sync_mac".into(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(mac))));
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().filter_map(Option::as_mut)
}

/// Every operation has a name of its own, and every response words.
fn describe(operation: &mut Operation) {
    // Handlers are named within their file, and so by its tag.
    let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
    operation.operation_id = operation.operation_id.take().map(|name| format!("{tag}_{name}"));
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = if status == "201" { "Made" } else { "Done" }.into();
        }
    }
}

fn add_problem(operation: &mut Operation) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description("A problem: `type` says which kind, `detail` what happened, `advice` what to do next")
        .content("application/problem+json", content)
        .build();
    operation.responses.responses.insert("default".into(), RefOr::T(response));
}

fn add_key(path: &str, post: &mut Operation) {
    let required = match () {
        () if NEEDS_KEY.contains(&path) => Required::True,
        () if TAKES_KEY.contains(&path) => Required::False,
        () => return,
    };
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128)).build();
    let key = ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some("Makes the request safe to repeat: the same key and body have one effect and one answer"))
        .schema(Some(text))
        .build();
    post.parameters.get_or_insert_with(Vec::new).push(RefOr::T(key));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_whole() {
        let api = serde_json::to_value(crate::http::description()).unwrap();
        assert_eq!(api["openapi"], "3.1.0");
        let paths = api["paths"].as_object().unwrap();
        for path in NEEDS_KEY.iter().chain(&TAKES_KEY) {
            assert!(paths[*path]["post"].is_object(), "{path}");
        }
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.values().all(|r| r["description"].is_string()), "{method} {path}");
                assert!(responses.contains_key("default") && responses.len() > 1, "{method} {path}");
                let said = operation["summary"].as_str().or(operation["description"].as_str());
                assert!(said.is_some_and(|s| s.len() > 5), "{method} {path}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let api = serde_json::to_value(crate::http::description()).unwrap();
        let mut open = vec![&api];
        let mut seen = 0;
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(|r| r.as_str()) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(api.pointer(pointer).is_some(), "{reference}");
                seen += 1;
            }
            match value {
                serde_json::Value::Object(map) => open.extend(map.values()),
                serde_json::Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        assert!(seen > 50);
    }
}
