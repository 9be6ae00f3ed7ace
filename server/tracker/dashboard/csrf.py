"""Whether a form was sent by the page itself. Pure."""


def is_same_origin(sec_fetch_site: str | None, origin: str | None, scheme: str, host: str) -> bool:
    """Whether a POST comes from a page of this very origin, or from no browser at all.

    Browsers say where a request comes from: in Sec-Fetch-Site (`site`) over TLS and on loopback, in Origin with every
    POST. A program that says neither carries nobody's cookie, so nothing can be forged with it. SameSite cookies alone
    would not do: another port of the same host is the same site.
    """
    if sec_fetch_site is not None:
        return sec_fetch_site in ("same-origin", "none")
    return origin is None or origin.lower() == f"{scheme}://{host}".lower()
