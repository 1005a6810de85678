package azure_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/compatibility.md anew")

const pageFile = "../../docs/compatibility.md"

// checkPage holds the page to what was seen in this run.
func checkPage(t *testing.T, seen evidence) {
	got := page(t, seen)
	if *update {
		if err := os.WriteFile(pageFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the page is out of date (-page +seen); go test ./test/azure -update writes it:\n%s", diff)
	}
}

func page(t *testing.T, seen evidence) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(introduction)
	written := evidence{}
	cell := func(client, name string) *sighting {
		of := operation{client, name}
		written[of] = seen[of]
		return seen[of]
	}
	fmt.Fprintf(&b, "\n## Devices\n\n%s, api-version %s\n\n%s\n| what | HTTPS | MQTT | MQTT over WebSocket |\n|---|---|---|---|\n", packages(t, deviceSDKs), seen.versions(transports), onTheWire)
	for _, what := range deviceRows {
		fmt.Fprintf(&b, "| %s |", what)
		for _, transport := range transports {
			fmt.Fprintf(&b, " %s |", cell(transport, what).answers())
		}
		b.WriteString("\n")
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| call | request | api-version | answers |\n|---|---|---|---|\n", s.title, strings.TrimSpace(packages(t, s.uses)+s.remark))
		for _, r := range s.rows {
			seen := cell(s.client, r.call)
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.call, r.request, seen.version(), seen.answers())
		}
	}
	b.WriteString(notServed)
	for of := range seen {
		if _, is := written[of]; !is {
			t.Errorf("the page has no row for %v", of)
		}
	}
	return b.String()
}

// versions are the api-versions that some clients were seen to ask for.
func (e evidence) versions(clients []string) string {
	all := sighting{versions: map[string]bool{}}
	for of, s := range e {
		if slices.Contains(clients, of.client) {
			maps.Copy(all.versions, s.versions)
		}
	}
	return all.version()
}

// version is the api-version of the calls.
func (s *sighting) version() string {
	if s == nil {
		return "-"
	}
	versions, _ := s.inOrder()
	return strings.Join(versions, ", ")
}

// answers are the outcomes of the calls.
func (s *sighting) answers() string {
	if s == nil {
		return "not driven"
	}
	_, outcomes := s.inOrder()
	var answers []string
	for _, o := range outcomes {
		answers = append(answers, o.String())
	}
	return strings.Join(answers, ", ")
}

// section is one client on the page.
type section struct {
	client, title string
	uses          []string // packages of npm
	remark        string
	rows          []row
}

type row struct{ call, request string }

// packages says which versions the run used.
func packages(t *testing.T, uses []string) string {
	t.Helper()
	text, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var pinned struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(text, &pinned); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range uses {
		names = append(names, fmt.Sprintf("`%s` %s", p, pinned.Dependencies[p]))
	}
	return strings.Join(names, ", ")
}

const introduction = `# Compatibility

Azure's own SDKs against Muster, as they were seen in a run of the tests ([test/azure](../test/azure/doc.go)). The tests write this page, and
fail when it says anything else than what they see.

Each row is one call. *Answers* are the HTTP statuses that were seen, and after an error the name under which the SDK reports it to its caller.
Every refusal of a device looks the same to it, whatever the reason: that is the rule, not an accident of the table. *Not driven* means that no
test makes the call: it says nothing about whether it would work.

As root the tests also run the SDKs without any trick, as the samples have them: HTTPS and MQTT over WebSocket on port 443, MQTT on port 8883.
Elsewhere the server is on ports of its own, and the tests fill in the port where the SDKs take none.
`

const notServed = `
## What is not supported

| what | client | state |
|---|---|---|
| AMQP, and AMQP over WebSocket | ` + "`azure-iot-provisioning-device-amqp`, the default of the C# and C samples" + ` | not supported; the same clients speak HTTPS and MQTT |
| ` + "`csr`" + ` on registration | no release of these SDKs sends it | served, see the [reference](reference/dps-device-api.md) |
| TPM attestation over MQTT | | not there in Azure either |
| tokens of Entra ID | ` + "`fromTokenCredential`" + ` | not supported; the service takes an operator's token in their place, the hub its shared access policies alone |
| modules, configurations, jobs and blobs of the hub | ` + "`azure-iothub`" + ` | not supported |
| telemetry, direct methods, messages to devices | ` + "`azure-iothub`, `azure-iot-device`" + ` | not supported: the built-in hub is a registry |
| the SDKs for C, C#, Java and Python | | not driven; the shapes they need are in the [reference](reference/dps-device-api.md) |
`

const onTheWire = "Over HTTPS it is `PUT /{idScope}/registrations/{id}/register` and `GET …/operations/{operationId}`; over MQTT the topics\n" +
	"`iotdps-register` and `iotdps-get-operationstatus`" + `, and the status is that of the answer's topic, or of the CONNACK, where a device
is refused before it can ask. The client asks for the status of an operation by itself only while it is not finished; the tests have its
transports ask.
`

var deviceSDKs = []string{
	"azure-iot-provisioning-device", "azure-iot-provisioning-device-http", "azure-iot-provisioning-device-mqtt",
	"azure-iot-security-symmetric-key", "azure-iot-security-x509", "azure-iot-security-tpm",
}

// deviceRows are the rows of the page that every transport fills.
var deviceRows = []string{
	"register: symmetric key of an enrollment",
	"register: its secondary key",
	"register: with a payload",
	"register: key derived from a group's",
	"register: self-signed certificate of an enrollment",
	byCertificate,
	"register: certificate as certGen makes it",
	"register: certificate as PowerShell makes it",
	byTPM,
	"operation status: symmetric key",
	"operation status: certificate",
	"failed: its device id belongs to another",
	"refused: another key",
	otherTPM,
	"refused: a group's own key",
	"refused: nobody's registration id",
	disabled,
	"refused: certificate without its intermediates",
	"refused: certificate of another CA by the same name",
	"refused: certificate of a CA that is not verified",
	"refused: certificate of a CA without a group",
	"refused: CA certificate as a device's",
	"refused: unknown id scope",
	"refused: registration id that ends in a dot",
}

// sections are the rest of the page.
var sections = []section{
	{client: "service", title: "Enrollments and registrations", uses: []string{"azure-iot-provisioning-service"}, rows: []row{
		{"createOrUpdateIndividualEnrollment", "`PUT /enrollments/{id}`"},
		{"getIndividualEnrollment", "`GET /enrollments/{id}`"},
		{byToken + "getIndividualEnrollment", "the same, with an operator's token"},
		{"deleteIndividualEnrollment", "`DELETE /enrollments/{id}`"},
		{"getIndividualEnrollmentAttestationMechanism", "`POST /enrollments/{id}/attestationmechanism`"},
		{"createIndividualEnrollmentQuery", "`POST /enrollments/query`"},
		{"runBulkEnrollmentOperation", "`POST /enrollments/`"},
		{"createOrUpdateEnrollmentGroup", "`PUT /enrollmentGroups/{id}`"},
		{"getEnrollmentGroup", "`GET /enrollmentGroups/{id}`"},
		{"deleteEnrollmentGroup", "`DELETE /enrollmentGroups/{id}`"},
		{"getEnrollmentGroupAttestationMechanism", "`POST /enrollmentgroups/{id}/attestationmechanism`"},
		{"createEnrollmentGroupQuery", "`POST /enrollmentGroups/query`"},
		{"getDeviceRegistrationState", "`GET /registrations/{id}`"},
		{"deleteDeviceRegistrationState", "`DELETE /registrations/{id}`"},
		{"createEnrollmentGroupDeviceRegistrationStateQuery", "`POST /registrations/{groupId}/query`"},
	}},
	{client: "registry", title: "Devices at the built-in hub", uses: []string{"azure-iothub"}, rows: []row{
		{"create", "`PUT /devices/{id}`"},
		{"update", "`PUT /devices/{id}`, `If-Match: \"*\"`"},
		{"get", "`GET /devices/{id}`"},
		{"list", "`GET /devices/`"},
		{"delete", "`DELETE /devices/{id}`"},
		{"addDevices", "`POST /devices`"},
		{"updateDevices", "`POST /devices`"},
		{"removeDevices", "`POST /devices`"},
		{"getTwin", "`GET /twins/{id}`"},
		{"updateTwin", "`PATCH /twins/{id}`"},
		{"createQuery", "`POST /devices/query`"},
		{"getRegistryStatistics", "`GET /statistics/devices`"},
		{"listJobs", "`GET /jobs`"},
		{"getModulesOnDevice", "`GET /devices/{id}/modules`"},
		{"getConfigurations", "`GET /configurations`"},
	}},
	{client: "management", title: "CA certificates", uses: []string{"@azure/arm-deviceprovisioningservices"},
		remark: ". Paths are below `/subscriptions/…/provisioningServices/{name}`; what the subscription, the resource group and the service are called is of no consequence.",
		rows: []row{
			{"list", "`GET /certificates`"},
			{"get", "`GET /certificates/{name}`"},
			{"createOrUpdate", "`PUT /certificates/{name}`"},
			{"delete", "`DELETE /certificates/{name}`"},
			{"generateVerificationCode", "`POST /certificates/{name}/generateVerificationCode`"},
			{"verifyCertificate", "`POST /certificates/{name}/verify`"},
		}},
	{client: "management-go", title: "CA certificates, from Go", remark: "`armdeviceprovisioningservices` v1.2.0.", rows: []row{
		{"List", "`GET /certificates`"},
		{"Get", "`GET /certificates/{name}`"},
		{"CreateOrUpdate", "`PUT /certificates/{name}`"},
		{"Delete", "`DELETE /certificates/{name}`"},
		{"GenerateVerificationCode", "`POST /certificates/{name}/generateVerificationCode`"},
		{"VerifyCertificate", "`POST /certificates/{name}/verify`"},
	}},
}
