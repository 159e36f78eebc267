#!/bin/sh
# Makes the certificates that README.md lists.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

authority() { # name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 36500 \
        -subj "/CN=cognigy-http tests $1" -keyout "$work/$1.key" -out "$1.pem" \
        -addext "keyUsage=critical,keyCertSign"
}
leaf() { # name, subject alternative name, first day, last day
    : >"$work/index"
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$2" >"$work/ext"
    # `openssl ca` rather than `openssl x509`: only it takes a first and a last day.
    printf '[ca]\ndatabase=%s\nserial=%s\npolicy=any\n[any]\ncommonName=supplied\n' \
        "$work/index" "$work/serial" >"$work/conf"
    openssl ca -batch -config "$work/conf" -name ca -md sha256 -create_serial -notext \
        -cert ca.pem -keyfile "$work/ca.key" -extfile "$work/ext" -outdir "$work" \
        -startdate "$3" -enddate "$4" -in "$work/leaf.csr" -out "$work/leaf.pem"
    openssl x509 -in "$work/leaf.pem" -outform DER -out "$1.der"
}

authority ca
authority other-ca
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=leaf" \
    -keyout "$work/leaf.key" -out "$work/leaf.csr"
openssl pkcs8 -topk8 -nocrypt -in "$work/leaf.key" -outform DER -out key.der
leaf server IP:127.0.0.1 20200101000000Z 21200101000000Z
leaf other-host DNS:other.example 20200101000000Z 21200101000000Z
leaf expired IP:127.0.0.1 20200101000000Z 20200102000000Z
