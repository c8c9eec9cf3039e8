//! What a monitoring request is answered with: status, kind of content, body.

/// A finished reply, ready for the HTTP machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// Whether pages of other origins may read it (`Access-Control-Allow-Origin: *`).
    pub cors: bool,
    /// The `Location` of a redirect.
    pub location: Option<Vec<u8>>,
    /// The body.
    pub body: Vec<u8>,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";

impl Response {
    /// A reply of the JSON endpoints, with any status.
    pub(crate) fn json(status: u16, body: Vec<u8>) -> Self {
        Self { status, content_type: JSON, cors: true, location: None, body }
    }

    /// A 200 of another kind of content.
    pub(crate) fn page(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: 200, content_type, cors: false, location: None, body }
    }

    /// A plain text without the header that lets other origins read it.
    pub(crate) fn plain(status: u16, body: Vec<u8>) -> Self {
        Self { status, content_type: PLAIN, cors: false, location: None, body }
    }

    /// A 400 with the text of what was wrong.
    pub(crate) fn bad_request(text: Vec<u8>) -> Self {
        Self::plain(400, text)
    }

    /// The 404 for a path that is not served.
    pub(crate) fn not_found() -> Self {
        Self::plain(404, b"404 page not found\n".to_vec())
    }

    /// The 307 to the clean form of a path. Bytes that have no place in a header are encoded.
    pub(crate) fn redirect(clean: &[u8], query: &[u8]) -> Self {
        let mut location = Vec::with_capacity(clean.len() + query.len() + 1);
        let mark = if query.is_empty() { &b""[..] } else { b"?" };
        for byte in [clean, mark, query].concat() {
            match byte {
                b'!'..=b'~' => location.push(byte),
                other => location.extend_from_slice(format!("%{other:02X}").as_bytes()),
            }
        }
        let mut body = b"<a href=\"".to_vec();
        for byte in &location {
            match byte {
                b'<' => body.extend_from_slice(b"&lt;"),
                b'>' => body.extend_from_slice(b"&gt;"),
                b'&' => body.extend_from_slice(b"&amp;"),
                b'"' => body.extend_from_slice(b"&#34;"),
                b'\'' => body.extend_from_slice(b"&#39;"),
                other => body.push(*other),
            }
        }
        body.extend_from_slice(b"\">Temporary Redirect</a>.\n\n");
        Self { status: 307, content_type: HTML, cors: false, location: Some(location), body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_the_query_and_escapes_its_link() {
        let response = Response::redirect(b"/x", b"a=\"<b>'&c");
        assert_eq!(response.location.unwrap(), b"/x?a=\"<b>'&c");
        let link = b"<a href=\"/x?a=&#34;&lt;b&gt;&#39;&amp;c\">Temporary Redirect</a>.\n\n";
        assert_eq!(response.body, link);
        let response = Response::redirect(b"/x\r\nA: b", b"\xff");
        assert_eq!(response.location.unwrap(), b"/x%0D%0AA:%20b?%FF");
    }
}
