//! `/raftz` of a server without Raft groups.

use super::response::Response;

pub(super) fn render() -> Response {
    Response::plain(404, b"No Raft nodes registered".to_vec())
}
