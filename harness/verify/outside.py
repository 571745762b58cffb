"""Prints how the VM looks from outside, as one JSON object. Collects, and judges nothing.

Reads {address, closed: [port], http: [url], tls: {port, names: [name]}, ca: PEM} and tries all of it at once. What
should answer gets 20 s to do so; what should not answer gets one try of 3 s.
"""

import json
import socket
import ssl
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 20
TRY = 3


def tried(attempt):
    """Returns one attempt as {answers, seen}; `seen` continues the sentence `<what> …`."""
    try:
        return {"answers": True, "seen": attempt()}
    except TimeoutError:
        return {"answers": False, "seen": "does not answer (timed out)"}
    except OSError as error:
        # urllib wraps the error from below.
        reason = getattr(error, "reason", error)
        text = "timed out" if isinstance(reason, TimeoutError) else str(reason)
        return {"answers": False, "seen": f"does not answer ({text})"}


def patiently(attempt):
    end = time.monotonic() + PATIENCE
    while True:
        result = tried(attempt)
        if result["answers"] or time.monotonic() > end:
            return result
        time.sleep(0.25)


def connect(address, port):
    socket.create_connection((address, port), timeout=TRY).close()
    return "answers"


def get(url):
    # A proxy of the control machine must not answer for the VM.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=TRY) as response:
        return f"answers {response.status}"


def trusting(ca):
    """Returns a context that trusts only these roots (PEM), or this machine's if None. An empty string is an error."""
    if ca == "":
        raise OSError("no root to trust it by")
    return ssl.create_default_context(cadata=ca)


def handshake(address, port, name, ca):
    with (
        socket.create_connection((address, port), timeout=TRY) as plain,
        trusting(ca).wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert()


def served(address, port, names, ca):
    """Returns the one certificate that is valid for every name. Each handshake checks chain, name and dates."""
    certificates = [handshake(address, port, name, ca) for name in names]
    serials = sorted({certificate["serialNumber"] for certificate in certificates})
    if len(serials) > 1:
        raise OSError(f"with several certificates: {serials}")
    certificate = certificates[0]
    issuer = dict(pair[0] for pair in certificate["issuer"])
    left = ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
    return {
        "serial": serials[0],
        "names": sorted(name for _, name in certificate["subjectAltName"]),
        "days": left / 86400,
        "issuer": issuer,
    }


def main(wanted):
    address = wanted["address"]
    with ThreadPoolExecutor(max_workers=16) as pool:
        closed = {port: pool.submit(tried, lambda port=port: connect(address, port)) for port in wanted["closed"]}
        http = {url: pool.submit(patiently, lambda url=url: get(url)) for url in wanted.get("http", [])}
        https = wanted.get("tls")
        tls = https and pool.submit(patiently, lambda: served(address, https["port"], https["names"], wanted.get("ca")))
        print(
            json.dumps(
                {
                    "closed": {port: seen.result() for port, seen in closed.items()},
                    "http": {url: seen.result() for url, seen in http.items()},
                    "tls": tls and tls.result(),
                }
            )
        )


main(json.load(sys.stdin))
