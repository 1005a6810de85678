#!/usr/bin/env bash
# A tour of a fresh server: a factory's CA is proved, five devices get their certificates
# and their hub, one renews, one is shut out, one certificate is revoked. Everything is
# real: muster, openssl and curl, on loopback. Every step is checked; the first that is not
# as it should be ends the tour with status 1 and its name.
#
#   scripts/demo.sh            settings: MUSTER_BIN (default bin/muster)
#
# Nothing is left running and nothing is written outside ./demo, which is made anew by
# each run and kept at the end for a look.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath -m "${MUSTER_BIN:-bin/muster}")
unset "${!MUSTER_@}" # the settings of another server have no place here
SECONDS=0
umask 077

number=0
title=start
server=
step() {
	number=$((number + 1))
	title=$1
	printf '\n%2d. %s\n' "$number" "$1"
}
say() { printf '    %s\n' "$*"; }
fail() {
	echo "demo: $*" >&2
	exit 1
}
finish() {
	local status=$?
	trap - EXIT INT TERM HUP PIPE
	stop_server
	[ "$status" -eq 0 ] && return
	{
		echo "demo: FAILED in step $number: $title"
		for log in openssl.log server.log; do
			[ -s "$log" ] && echo "demo: the end of demo/$log:" && tail -n 8 "$log"
		done
	} >&2
	exit 1
}
stop_server() {
	[ -n "$server" ] || return 0
	kill "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
	server=
}
trap finish EXIT
trap 'exit 1' INT TERM HUP PIPE

# run COMMAND...: shows a command and runs it; what it prints is in $out.
run() {
	say "\$ $*"
	out=$("$@" 2>"run.err") || fail "status $?: $(cat run.err)"
}
# refused STATUS COMMAND...: the same for a command that has to end with that status.
refused() {
	local want=$1 status=0
	shift
	say "\$ $*"
	out=$("$@" 2>&1) || status=$?
	[ "$status" -eq "$want" ] || fail "status $status, want $want: $out"
}
shown() { printf '%s\n' "${1:-$out}" | sed 's/^/      /'; }
# expect WHAT GOT WANT
expect() { [ "$2" = "$3" ] || fail "$1 is \"$2\", want \"$3\""; }
muster() { "$bin" "$@"; }

# field NAME: the first text or word of that name in the JSON on standard input.
field() {
	awk -v name="$1" '
		{ text = text $0 }
		END {
			if (!match(text, "\"" name "\": *(\"[^\"]*\"|[a-z0-9]+)")) exit 1
			text = substr(text, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
			gsub(/^ *"?|"$/, "", text)
			print text
		}'
}
base64_line() { openssl base64 -A; }

# ---------------------------------------------------------------------------------------

[ -x "$bin" ] || fail "there is no muster at $bin: run make, or set MUSTER_BIN"
mark="made by scripts/demo.sh, which removes it when it runs again"
if [ -e demo ] && ! grep -qs "$mark" demo/.gitignore; then
	fail "./demo is not from an earlier run: move it away"
fi
rm -rf demo
mkdir -p demo/factory demo/devices
cd demo
printf '# %s\n*\n' "$mark" >.gitignore

echo "Muster in one tour: a factory's CA, five devices, one server. All of it is in ./demo."

step "A server: muster serve --dev, on loopback, on ports that are free"
# The kernel ends the server should this script be killed outright.
guard=()
setpriv --pdeathsig TERM true 2>/dev/null && guard=(setpriv --pdeathsig TERM)
"${guard[@]}" "$bin" serve --dev --data server \
	--devices 127.0.0.1:0 --admin 127.0.0.1:0 --pki 127.0.0.1:0 --mqtt 127.0.0.1:0 >server.log 2>&1 </dev/null &
server=$!
for _ in $(seq 200); do
	grep -qs '^ready in' server.log && break
	kill -0 "$server" 2>/dev/null || fail "the server ended"
	sleep 0.1
done
grep -qs '^ready in' server.log || fail "the server is not ready after 20 s"
. server/dev.env
say "devices $MUSTER_DEVICE_URL, id scope $MUSTER_ID_SCOPE; admin $MUSTER_ADMIN_URL"
openssl x509 -in "$MUSTER_CA_FILE" -out muster-root.pem # the first one in the bundle
chain_ok() { # CERTIFICATE CHAIN
	run openssl verify -CAfile muster-root.pem -untrusted "$2" -purpose sslclient "$1"
	expect "the verdict of openssl" "$out" "$1: OK"
	shown
}

step "A factory's own CA, made with openssl: root, intermediate, a certificate per device"
cat >factory/openssl.cnf <<'CONF'
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[device]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
CONF
export OPENSSL_CONF=$PWD/factory/openssl.cnf
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>>openssl.log; }
certify() { # NAME SUBJECT SECTION CA DAYS: factory/NAME.pem, signed by factory/CA.key
	new_key "factory/$1.key"
	openssl req -new -key "factory/$1.key" -subj "$2" 2>>openssl.log |
		openssl x509 -req -CA "factory/$4.pem" -CAkey "factory/$4.key" -set_serial "0x$(openssl rand -hex 15)" \
			-days "$5" -extfile factory/openssl.cnf -extensions "$3" -out "factory/$1.pem" 2>>openssl.log
}
new_key factory/root.key
openssl req -x509 -new -key factory/root.key -subj "/O=Example Works/CN=Example Works Root" -days 3650 -extensions root -out factory/root.pem 2>>openssl.log
certify line-3 "/O=Example Works/CN=Example Works Line 3" intermediate root 1825
for id in press-01 press-02 press-03 press-04 press-05; do
	certify "$id" "/CN=$id" device line-3 365
	cat factory/line-3.pem >>"factory/$id.pem" # a device shows its chain, all but the root
	mkdir "devices/$id"
done
say "Example Works Root > Example Works Line 3 > press-01 ... press-05"

step "The root is uploaded as a trust anchor. Nobody has proved to hold its key yet"
run muster verify upload example-works factory/root.pem -o json
expect isVerified "$(field isVerified <<<"$out")" false
say "isVerified: false - it vouches for nothing"

step "A verification code is asked for; the factory signs a certificate with it as the CN"
run muster verify code example-works -o json
code=$(field verificationCode <<<"$out")
say "verificationCode: $code"
certify verification "/CN=$code" device root 1
say "\$ openssl x509 -req -CA factory/root.pem -CAkey factory/root.key ... -out factory/verification.pem"
run muster verify prove example-works factory/verification.pem -o json
expect isVerified "$(field isVerified <<<"$out")" true
say "isVerified: true"

step "An enrollment group on the intermediate: issuing profile and first twin for its devices"
first_twin='"tags":{"plant":"hall-7"},"properties":{"desired":{"telemetrySeconds":30}}'
echo "{$first_twin}" >twin.json
run muster group create line-3 --signing-certificate factory/line-3.pem --profile default --twin twin.json -o json
expect provisioningStatus "$(field provisioningStatus <<<"$out")" enabled
expect credentialPolicyName "$(field credentialPolicyName <<<"$out")" default

# ---------------------------------------------------------------------------------------

api_version=2025-07-01-preview
https() { curl -q --silent --show-error --noproxy '*' --max-time 20 --cacert "$MUSTER_CA_FILE" "$@"; }
register() { # ID CERTIFICATE KEY BODY: prints the status; the answer is in devices/ID/answer.json
	https --cert "$2" --key "$3" -X PUT -H 'Content-Type: application/json' --data "@$4" \
		-o "devices/$1/answer.json" -w '%{http_code}' \
		"$MUSTER_DEVICE_URL/$MUSTER_ID_SCOPE/registrations/$1/register?api-version=$api_version"
}
csr() { # ID: a key in devices/ID/key.pem, and its request (DER, in base64)
	new_key "devices/$1/key.pem"
	openssl req -new -key "devices/$1/key.pem" -subj "/CN=$1" -outform DER | base64_line
}
# The wire, with base64 cut short.
wire() { sed -E 's/("[A-Za-z0-9+/]{16})[A-Za-z0-9+/]{40,}=*"/\1..."/g' "$1" | awk -v mark="$2" '{ print "    " mark " " $0 }'; }

step "press-01 registers with nothing but openssl and curl; this is the wire"
printf '{"registrationId":"press-01","csr":"%s","payload":{"model":"press-7"}}\n' "$(csr press-01)" >devices/press-01/request.json
status=$(register press-01 factory/press-01.pem factory/press-01.key devices/press-01/request.json)
say "> PUT /$MUSTER_ID_SCOPE/registrations/press-01/register?api-version=$api_version"
say "> (TLS client certificate: CN=press-01, issued by Example Works Line 3)"
wire devices/press-01/request.json '>'
say "< $status"
sed -E 's/"x509":\{.*\}\},"registrationId"/"x509":{...},\n "registrationId"/; s/,"(createdDateTimeUtc|lastUpdatedDateTimeUtc|issuedCertificateChain)"/,\n "\1"/g' \
	devices/press-01/answer.json >devices/press-01/answer.txt
wire devices/press-01/answer.txt '<'
expect "the HTTP status" "$status" 202
expect status "$(field status <<<"$(cat devices/press-01/answer.json)")" assigned
# The leaf, its issuer, the root: base64 of DER each.
n=0
for der in $(grep -o '"issuedCertificateChain":\[[^]]*\]' devices/press-01/answer.json | cut -d: -f2- | tr -d '[]"' | tr ',' ' '); do
	n=$((n + 1))
	openssl base64 -d -A <<<"$der" | openssl x509 -inform DER >"devices/press-01/$n.pem"
done
expect "the length of the chain" "$n" 3
mv devices/press-01/1.pem devices/press-01/cert.pem
cat devices/press-01/[23].pem >devices/press-01/chain.pem
rm devices/press-01/[23].pem
chain_ok devices/press-01/cert.pem devices/press-01/chain.pem
run muster reg show press-01 -o json
expect assignedHub "$(field assignedHub <<<"$out")" local
twin=$(tr -d ' \n' <<<"$out" | grep -oF "\"twin\":{$first_twin") || fail "the twin is not the group's: $out"
shown "\"assignedHub\":\"local\" $twin"

step "press-02, press-03 and press-04 register with Muster's own device client"
for id in press-02 press-03 press-04; do
	run muster device register "$id" --dir "devices/$id" --factory-cert "factory/$id.pem" --factory-key "factory/$id.key"
	expect assignedHub "$(field assignedHub <"devices/$id/state.json")" local
	chain_ok "devices/$id/cert.pem" "devices/$id/chain.pem"
done

step "press-05 enrolls over EST (RFC 7030), again with curl and openssl alone"
est="$MUSTER_DEVICE_URL/.well-known/est"
say "\$ curl $est/cacerts | openssl base64 -d -A | openssl pkcs7 -inform DER -print_certs"
https "$est/cacerts" | openssl base64 -d -A | openssl pkcs7 -inform DER -print_certs >devices/press-05/chain.pem
csr press-05 >devices/press-05/request.b64
say "\$ curl --cert factory/press-05.pem --data @request.b64 $est/simpleenroll | ..."
https --cert factory/press-05.pem --key factory/press-05.key -H 'Content-Type: application/pkcs10' \
	--data-binary @devices/press-05/request.b64 -o devices/press-05/answer.b64 -w '%{http_code}' "$est/simpleenroll" >status
expect "the HTTP status" "$(cat status)" 200
openssl base64 -d -A <devices/press-05/answer.b64 | openssl pkcs7 -inform DER -print_certs | openssl x509 >devices/press-05/cert.pem
chain_ok devices/press-05/cert.pem devices/press-05/chain.pem

# ---------------------------------------------------------------------------------------

serial() { openssl x509 -in "devices/$1/cert.pem" -noout -serial | cut -d= -f2 | tr A-F a-f; }

step "press-02 renews: a new key, vouched for by the certificate it has"
before=$(serial press-02)
run muster device renew press-02 --dir devices/press-02
[ "$(serial press-02)" != "$before" ] || fail "the serial number is still $before"
chain_ok devices/press-02/cert.pem devices/press-02/chain.pem
say "was $before"
say "now $(serial press-02)"

step "press-03 is shut out: a disabled individual enrollment, which alone decides"
run muster group except press-03 --yes -o json
expect provisioningStatus "$(field provisioningStatus <<<"$out")" disabled
echo '{"registrationId":"press-03"}' >devices/press-03/request.json
status=$(register press-03 devices/press-03/cert.pem devices/press-03/key.pem devices/press-03/request.json)
say "its next request, with Muster's certificate:     $status $(field message <devices/press-03/answer.json)"
expect "the HTTP status" "$status" 401
status=$(register press-03 factory/press-03.pem factory/press-03.key devices/press-03/request.json)
say "and one more, with the factory's certificate:    $status $(field message <devices/press-03/answer.json)"
expect "the HTTP status" "$status" 401
refused 6 muster explain press-03
shown
grep -q enrollment-disabled <<<"$out" || fail "explain does not name the rule enrollment-disabled"

step "The certificate of press-04 is revoked, for every relying party"
serial04=$(serial press-04)
run muster ca revoke "$serial04" --reason keyCompromise --yes
crl_url=$(openssl x509 -in devices/press-04/cert.pem -noout -ext crlDistributionPoints | sed -n 's/^ *URI://p')
case $crl_url in http://*) ;; *) fail "the certificate names no CRL: $crl_url" ;; esac
say "\$ curl $crl_url"
for _ in $(seq 100); do # publishing follows the revocation within moments
	curl -q --silent --show-error --noproxy '*' --max-time 20 --fail "$crl_url" -o issuing.crl
	openssl crl -inform DER -in issuing.crl -out crl.pem
	openssl crl -in crl.pem -noout -text | grep -qi "Serial Number: $serial04" && break
	sleep 0.1
done
refused 2 openssl verify -crl_check -CAfile muster-root.pem -untrusted devices/press-04/chain.pem -CRLfile crl.pem devices/press-04/cert.pem
grep -q 'certificate revoked' <<<"$out" || fail "openssl does not call it revoked: $out"
shown "$(grep -o 'error 23 .*' <<<"$out")"
run openssl verify -crl_check -CAfile muster-root.pem -untrusted devices/press-02/chain.pem -CRLfile crl.pem devices/press-02/cert.pem
shown
refused 6 muster device renew press-04 --dir devices/press-04
shown "$(tail -n 1 <<<"$out")"
refused 6 muster explain press-04 --certificate devices/press-04/cert.pem
grep -q certificate-revoked <<<"$out" || fail "explain does not name the rule certificate-revoked"
shown "$(grep certificate-revoked <<<"$out" | head -n 1)"
say "that ends a certificate, not a device: the factory's would still admit it, unless step 10 is done"
run muster explain press-04
grep -q '^✓ admitted' <<<"$out" || fail "explain does not say that the factory's certificate is admitted: $out"
shown "$(head -n 1 <<<"$out")"
shown "$(grep '^✓ admitted' <<<"$out")"

# ---------------------------------------------------------------------------------------

step "What the server has on record"
row() { printf '    %-9s %-12s %-15s %-22s %-6s %-9s %s\n' "$@"; }
device() { # ID HOW NOTE
	local id=$1 state serial
	serial=$(serial "$id")
	muster ca certs --device "$id" -o json >record.json
	grep -q "\"serial\": *\"$serial\"" record.json || fail "the certificate of $id is not on record"
	muster reg show "$id" -o json >record.json
	tr -d ' \n' <record.json | grep -qF "$first_twin" || fail "the twin of $id is not the group's"
	state=$(field status <record.json)
	[ -z "${4:-}" ] || state=$4
	row "$id" "$2" "..${serial: -12}" "$(openssl x509 -in "devices/$id/cert.pem" -noout -issuer -nameopt multiline | sed -n 's/^ *commonName *= //p')" \
		"$(field assignedHub <record.json)" "$state" "$3"
}
row DEVICE HOW "SERIAL" ISSUER HUB STATE NOTE
device press-01 "DPS, curl" "twin from its group"
device press-02 "DPS, muster" "renewed by its own certificate"
device press-03 "DPS, muster" "401 since then: enrollment-disabled" "$(muster enroll show press-03 -o json | field provisioningStatus)"
device press-04 "DPS, muster" "on the CRL, 401: certificate-revoked" "$(muster ca certs --device press-04 -o json | field status)"
device press-05 "EST, curl" "RFC 7030 simpleenroll"

title="stop"
kill -0 "$server" 2>/dev/null || fail "the server ended by itself"
stop_server
rm -f run.err status record.json
printf '\nDone in %d s. The server is stopped; keys, certificates and its data are in ./demo for a look.\n' "$SECONDS"
