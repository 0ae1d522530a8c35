//! Every route on one screen. A test says that this table and `/openapi.json` agree.

use axum::{
    Router,
    middleware::{from_fn_with_state, map_response},
    routing::{MethodRouter, delete, get, post, put},
};

use super::{
    alerts, changes, clock, deliveries, docs, edge, enqueue, explain, gates, health, jobs, keys, kinds, metrics,
    queues, schedule_pause, schedules, signals, sse, state::ApiState, tenants, webhooks,
};

/// Path → what is there.
#[rustfmt::skip]
fn table() -> Vec<(&'static str, MethodRouter<ApiState>)> {
    vec![
        ("/v1/jobs",                     get(jobs::list).post(enqueue::enqueue)),
        ("/v1/jobs/{id}",                get(jobs::show).patch(changes::edit)),
        ("/v1/jobs/{id}/cancel",         post(changes::cancel)),
        ("/v1/jobs/{id}/revive",         post(changes::revive)),
        ("/v1/jobs/{id}/resolve",        post(changes::resolve)),
        ("/v1/jobs/{id}/signals/{name}", post(signals::signal)),
        ("/v1/jobs/{id}/events",         get(sse::events)),
        ("/v1/jobs/{id}/log",            get(jobs::log)),
        ("/v1/jobs/{id}/explain",        get(explain::explain)),
        ("/v1/kinds",                    get(kinds::list)),
        ("/v1/queues",                   get(queues::list)),
        ("/v1/queues/{name}/pause",      post(queues::pause)),
        ("/v1/queues/{name}/resume",     post(queues::resume)),
        ("/v1/gates",                    get(gates::list_gates)),
        ("/v1/kinds/{kind}/pause",       post(gates::stops::pause_kind)),
        ("/v1/kinds/{kind}/resume",      post(gates::stops::resume_kind)),
        ("/v1/tenants/{id}/pause",       post(gates::stops::pause_tenant)),
        ("/v1/tenants/{id}/resume",      post(gates::stops::resume_tenant)),
        ("/v1/clock/accept",             post(clock::accept_clock)),
        ("/v1/kill-switch",              post(gates::stops::kill).delete(gates::stops::unkill)),
        ("/v1/limits/{of}/{name}",       put(gates::limits::put_limit).delete(gates::limits::remove_limit)),
        ("/v1/freezes/{id}",             get(gates::freezes::show_freeze).put(gates::freezes::put_freeze).delete(gates::freezes::remove_freeze)),
        ("/v1/windows",                  get(gates::windows::list_windows)),
        ("/v1/windows/{name}",           get(gates::windows::show_window).put(gates::windows::put_window).delete(gates::windows::remove_window)),
        ("/v1/schedules",                get(schedules::list)),
        ("/v1/schedules/{name}",         get(schedules::show).put(schedules::write).delete(schedules::remove)),
        ("/v1/schedules/{name}/preview", get(schedules::preview)),
        ("/v1/schedules/{name}/pause",   post(schedule_pause::pause_schedule)),
        ("/v1/schedules/{name}/resume",  post(schedule_pause::resume_schedule)),
        ("/v1/alerts",                   get(alerts::list)),
        ("/v1/tenants",                  get(tenants::list)),
        ("/v1/tenants/{id}",             get(tenants::show).put(tenants::write)),
        ("/v1/tenants/{id}/quotas",      get(tenants::quotas)),
        ("/v1/tenants/{id}/backups",     get(tenants::backups)),
        ("/v1/webhooks",                 get(webhooks::list).post(webhooks::create)),
        ("/v1/webhooks/{id}",            get(webhooks::show).patch(webhooks::switch).delete(webhooks::remove)),
        ("/v1/webhooks/{id}/rotate",     post(webhooks::rotate)),
        ("/v1/webhooks/{id}/deliveries", get(deliveries::list)),
        ("/v1/webhooks/{id}/replay",     post(deliveries::replay)),
        ("/v1/keys",                     get(keys::list).post(keys::create)),
        ("/v1/keys/{id}",                delete(keys::revoke)),
        ("/metrics",                     get(metrics::metrics)),
        ("/livez",                       get(health::livez)),
        ("/readyz",                      get(health::readyz)),
        ("/openapi.json",                get(docs::openapi)),
        ("/docs",                        get(docs::page)),
        ("/",                            get(docs::front)),
    ]
}

/// The paths of all routes.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    table().into_iter().map(|(path, _)| path).collect()
}

/// The router with its outermost layer.
pub fn router(state: ApiState) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    // The layer is put on after the fallback, so that unknown routes are answered in the same form.
    let routes = routes.fallback(docs::no_such_route).layer(from_fn_with_state(state.clone(), edge::wrap));
    Router::new().fallback_service(routes.with_state(state)).layer(map_response(edge::name_methods))
}
