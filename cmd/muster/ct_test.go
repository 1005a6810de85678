package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	ct "github.com/google/certificate-transparency-go"
	ctclient "github.com/google/certificate-transparency-go/client"
	"github.com/google/certificate-transparency-go/ctutil"
	"github.com/google/certificate-transparency-go/jsonclient"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	ctx509util "github.com/google/certificate-transparency-go/x509util"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	tesseraclient "github.com/transparency-dev/tessera/client"
)

// devServer is a development server with what clients know of it.
type devServer struct {
	t   *testing.T
	dir string
	env map[string]string
}

func newDevServer(t *testing.T) devServer {
	t.Helper()
	s := devServer{t, filepath.Join(t.TempDir(), "muster-dev"), nil}
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code := run(ctx, []string{
			"serve", "--dev", "--data", s.dir, "--devices", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pki", "127.0.0.1:0", "--mqtt", "127.0.0.1:0",
		}, streams{Out: w, Err: io.Discard})
		_ = w.Close()
		done <- code
	}()
	t.Cleanup(func() { stop(); <-done })
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	go io.Copy(io.Discard, r)
	raw, err := os.ReadFile(filepath.Join(s.dir, "dev.env"))
	if err != nil {
		t.Fatal(err)
	}
	s.env = readEnvFile(raw)
	return s
}

// api calls the admin API.
func (s devServer) api(method, path, body string) string {
	s.t.Helper()
	req, err := http.NewRequest(method, s.env["MUSTER_ADMIN_URL"]+"/api/v1/"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.env["MUSTER_TOKEN"])
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
		req.Header.Set("If-Match", "*")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
	}
	return string(text)
}

// get fetches from the PKI listener.
func (s devServer) get(path string) (int, []byte) {
	s.t.Helper()
	resp, err := http.Get(s.env["MUSTER_PKI_URL"] + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, text
}

func (s devServer) register(id string) []*ctx509.Certificate {
	s.t.Helper()
	var out, talk bytes.Buffer
	code := run(context.Background(), []string{
		"device", "register", id, "--dir", filepath.Join(s.dir, "..", id), "--url", s.env["MUSTER_DEVICE_URL"], "--id-scope", s.env["MUSTER_ID_SCOPE"],
		"--ca-file", s.env["MUSTER_CA_FILE"], "--group-key-file", filepath.Join(s.dir, "demo-group.key"),
	}, streams{In: strings.NewReader(""), Out: &out, Err: &talk})
	if code != exitDone {
		s.t.Fatalf("exit %d: %s", code, talk.String())
	}
	var list struct{ Items []struct{ Serial string } }
	s.decode(s.api(http.MethodGet, "certificates?registrationId="+id, ""), &list)
	var got struct{ Pem, Chain string }
	s.decode(s.api(http.MethodGet, "certificates/"+list.Items[0].Serial, ""), &got)
	var chain []*ctx509.Certificate
	for rest := []byte(got.Pem + got.Chain); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return chain
		}
		c, err := ctx509.ParseCertificate(b.Bytes)
		if ctx509.IsFatal(err) {
			s.t.Fatal(err)
		}
		chain = append(chain, c)
	}
}

func (s devServer) decode(text string, into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.t.Fatal(err)
	}
}

// included proves, with tessera's client over HTTP, that what an SCT was given for stands
// in the log's tree where the SCT says.
func (s devServer) included(base string, leaf *ct.MerkleTreeLeaf, sct *ct.SignedCertificateTimestamp) {
	s.t.Helper()
	leaf.TimestampedEntry.Extensions = sct.Extensions // ctutil.LeafHash leaves them out
	hash, err := ct.LeafHashForLeaf(leaf)
	if err != nil {
		s.t.Fatal(err)
	}
	ext := sct.Extensions // leaf_index(0), 2 bytes of length, 5 of index
	index := uint64(ext[3])<<32 | uint64(ext[4])<<24 | uint64(ext[5])<<16 | uint64(ext[6])<<8 | uint64(ext[7])
	root, err := url.Parse(base + "/")
	if err != nil {
		s.t.Fatal(err)
	}
	fetch, err := tesseraclient.NewHTTPFetcher(root, http.DefaultClient)
	if err != nil {
		s.t.Fatal(err)
	}
	note, err := fetch.ReadCheckpoint(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	size, rootHash := readTree(s.t, note)
	b, err := tesseraclient.NewProofBuilder(s.t.Context(), size, fetch.ReadTile)
	if err != nil {
		s.t.Fatal(err)
	}
	path, err := b.InclusionProof(s.t.Context(), index)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, hash[:], path, rootHash); err != nil {
		s.t.Fatal(err)
	}
}

func TestEmbeddedSCTsAreVerifiedByOtherTools(t *testing.T) {
	s := newDevServer(t)
	s.api(http.MethodPut, "profiles/logged", `{"embedSct": true}`)
	s.api(http.MethodPatch, "groups/demo", `{"credentialPolicyName": "logged"}`)
	base := s.env["MUSTER_PKI_URL"] + "/ct/" + s.env["MUSTER_ID_SCOPE"]
	_, key := s.get("/ct/" + s.env["MUSTER_ID_SCOPE"] + "/key")
	public, err := ctx509.ParsePKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	log, err := ctclient.New(base, http.DefaultClient, jsonclient.Options{PublicKeyDER: key})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"press-1", "press-2", "press-3"} {
		chain := s.register(id)
		scts, err := ctx509util.ParseSCTsFromCertificate(chain[0].Raw)
		if err != nil || len(scts) != 1 {
			t.Fatalf("%d SCTs, %v", len(scts), err)
		}
		if err := ctutil.VerifySCT(public, chain, scts[0], true); err != nil {
			t.Fatal(err)
		}
		if is, err := ctutil.ContainsSCT(chain[0], scts[0]); !is || err != nil {
			t.Fatal(is, err)
		}
		leaf, err := ct.MerkleTreeLeafForEmbeddedSCT(chain, scts[0].Timestamp)
		if err != nil {
			t.Fatal(err)
		}
		s.included(base, leaf, scts[0])

		// The certificate itself can be logged too, by anybody; again it is the same entry.
		submitted := []ct.ASN1Cert{{Data: chain[0].Raw}, {Data: chain[1].Raw}, {Data: chain[2].Raw}}
		sct, err := log.AddChain(t.Context(), submitted)
		if err != nil {
			t.Fatal(err)
		}
		again, err := log.AddChain(t.Context(), submitted)
		if err != nil || !bytes.Equal(sct.Extensions, again.Extensions) || sct.Timestamp != again.Timestamp {
			t.Fatalf("again: %+v, %v", again, err)
		}
		if leaf, err = ct.MerkleTreeLeafFromChain(chain, ct.X509LogEntryType, sct.Timestamp); err != nil {
			t.Fatal(err)
		}
		s.included(base, leaf, sct)
	}
	roots, err := log.GetAcceptedRoots(t.Context())
	if err != nil || len(roots) != 1 {
		t.Fatalf("%d roots, %v", len(roots), err)
	}
	// The entries are whole certificates, and not everybody's.
	if status, _ := s.get("/ct/" + s.env["MUSTER_ID_SCOPE"] + "/tile/data/000.p/1"); status != http.StatusNotFound {
		t.Fatal("the certificates are public")
	}
	code, out, talk := muster("audit", "verify", "--local", "--data", s.dir)
	if code != exitDone && code != exitWarning {
		t.Fatalf("exit %d: %s %s", code, out, talk)
	}
	if entries := s.api(http.MethodGet, "audit?action=certificate.precertified", ""); strings.Count(entries, `"certificate.precertified"`) != 3 {
		t.Fatalf("precertificates on record: %s", entries)
	}
}

func TestTheCTLogTakesOnlyCertificatesOfItsOwnIssuers(t *testing.T) {
	s := newDevServer(t)
	chain := s.register("press-1")
	path := s.env["MUSTER_PKI_URL"] + "/ct/" + s.env["MUSTER_ID_SCOPE"] + "/ct/v1/"
	post := func(operation string, certs ...[]byte) int {
		body, err := json.Marshal(map[string][][]byte{"chain": certs})
		if err != nil {
			t.Fatal(err)
		}
		return s.post(path+operation, body)
	}
	foreign := newDeviceService(t)
	other := foreign.leaf(t, "press-1", deviceTestKey(t).Public())
	leaf, issuing, root := chain[0].Raw, chain[1].Raw, chain[2].Raw
	for name, got := range map[string]int{
		"nothing":                            post("add-chain"),
		"a leaf alone":                       post("add-chain", leaf),
		"a certificate of somebody else":     post("add-chain", other.Raw, foreign.ca.Raw),
		"one that our issuer did not sign":   post("add-chain", other.Raw, issuing),
		"a chain out of order":               post("add-chain", leaf, root),
		"a chain with something behind it":   post("add-chain", leaf, issuing, root, root),
		"a certificate for a precertificate": post("add-pre-chain", leaf, issuing),
		"no certificate":                     post("add-chain", []byte("x"), issuing),
		"no JSON":                            s.post(path+"add-chain", []byte("{")),
	} {
		if got != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got)
		}
	}
	if got := s.post(path+"add-chain", bytes.Repeat([]byte(" "), 200<<10)); got != http.StatusRequestEntityTooLarge {
		t.Errorf("too much: %d", got)
	}
	if got := post("add-chain", leaf, issuing); got != http.StatusOK {
		t.Errorf("ours: %d", got)
	}
}

func (s devServer) post(address string, body []byte) int {
	s.t.Helper()
	resp, err := http.Post(address, "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// readTree reads a checkpoint's size and root.
func readTree(t *testing.T, note []byte) (size uint64, root []byte) {
	t.Helper()
	lines := strings.Split(string(note), "\n")
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = base64.StdEncoding.DecodeString(lines[2]); err != nil {
		t.Fatal(err)
	}
	return size, root
}
