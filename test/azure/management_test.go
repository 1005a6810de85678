package azure_test

import (
	"encoding/base64"
	"encoding/pem"
	"testing"
)

// certificate is a certificate as the management API shows it.
type certificate struct {
	Name       string `json:"name"`
	ETag       string `json:"etag"`
	Properties struct {
		Subject          string `json:"subject"`
		Expiry           string `json:"expiry"` // the client has made a date of it
		Thumbprint       string `json:"thumbprint"`
		IsVerified       bool   `json:"isVerified"`
		Certificate      string `json:"certificate"`
		VerificationCode string `json:"verificationCode"`
	} `json:"properties"`
}

// bytesOf stands for bytes in an argument.
func bytesOf(text string) object {
	return object{"bytes": base64.StdEncoding.EncodeToString([]byte(text))}
}

func derOf(t *testing.T, text string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM")
	}
	return string(block.Bytes)
}

// prove is the flow of an owner: he uploads his CA, asks for a code, signs it, and posts
// the proof. It is done twice, first with the wrong proof.
func (w *world) prove(t *testing.T, name string, f *factory) certificate {
	t.Helper()
	var c certificate
	w.certificates(t, "createOrUpdate", resourceGroup, serviceName, name, object{"properties": object{"certificate": bytesOf(f.read(t, "root.pem"))}}).gives(&c)
	if c.Properties.IsVerified || c.Properties.Subject == "" || c.Properties.Expiry == "" {
		t.Errorf("uploaded %+v", c)
	}
	unverified := c.ETag
	w.certificates(t, "generateVerificationCode", name, c.ETag, resourceGroup, serviceName).gives(&c)
	code := c.Properties.VerificationCode
	if len(code) < 32 || len(code) > 64 || c.ETag == unverified {
		t.Errorf("the code is %q, at %s after %s", code, c.ETag, unverified)
	}
	verify := func(certificate string) call {
		t.Helper()
		return w.certificates(t, "verifyCertificate", name, c.ETag, resourceGroup, serviceName, object{"certificate": certificate})
	}
	verify(base64.StdEncoding.EncodeToString([]byte(f.leaf(t, "somebody")))).fails(400, "RestError")
	verify(f.leaf(t, code+" ")).fails(400, "RestError")
	proof := f.leaf(t, code) // the first code is still good
	verify(base64.StdEncoding.EncodeToString([]byte(proof))).gives(&c)
	if !c.Properties.IsVerified {
		t.Errorf("after the proof: %+v", c)
	}
	verify(proof).fails(400, "RestError") // it is used up
	return c
}

func (w *world) manageCertificates(t *testing.T) {
	f, other := newFactory(t, powerShell), newFactory(t, powerShell).read(t, "root.pem")
	upload := func(t *testing.T, etag, name, body string) call {
		t.Helper()
		options := object{}
		if etag != "" {
			options["ifMatch"] = etag
		}
		return w.certificates(t, "createOrUpdate", resourceGroup, serviceName, name, object{"properties": object{"certificate": bytesOf(body)}}, options)
	}
	w.certificates(t, "get", "owner", resourceGroup, serviceName).fails(404, "RestError")
	verified := w.prove(t, "owner", f)
	var read certificate
	w.certificates(t, "get", "owner", resourceGroup, serviceName).gives(&read)
	if read.ETag != verified.ETag || !read.Properties.IsVerified || read.Properties.VerificationCode != "" {
		t.Errorf("read %+v after %+v", read, verified)
	}
	var listed struct {
		Value []certificate `json:"value"`
	}
	w.certificates(t, "list", resourceGroup, serviceName).gives(&listed)
	if len(listed.Value) == 0 {
		t.Error("nothing is listed")
	}
	t.Run("the same bytes keep what was proved, others do not", func(t *testing.T) {
		root := f.read(t, "root.pem")
		upload(t, "", "owner", other).fails(412, "RestError")
		upload(t, "c3RhbGU=", "owner", other).fails(412, "RestError")
		upload(t, read.ETag, "owner", derOf(t, root)).gives(&read)
		if !read.Properties.IsVerified {
			t.Error("the same bytes are unverified")
		}
		upload(t, read.ETag, "owner", other).gives(&read)
		if read.Properties.IsVerified {
			t.Error("other bytes are verified")
		}
	})
	t.Run("what cannot be is refused", func(t *testing.T) {
		upload(t, "", "garbage", "no certificate").fails(400, "RestError")
		upload(t, "", "leaf", f.leaf(t, "leaf")).fails(400, "RestError")
		w.certificates(t, "generateVerificationCode", "owner", "c3RhbGU=", resourceGroup, serviceName).fails(412, "RestError")
		w.certificates(t, "verifyCertificate", "owner", "c3RhbGU=", resourceGroup, serviceName, object{"certificate": f.read(t, "root.pem")}).fails(412, "RestError")
		w.certificates(t, "delete", resourceGroup, "c3RhbGU=", serviceName, "owner").fails(412, "RestError")
		w.certificatesAs(t, "nobody", "list", resourceGroup, serviceName).fails(401, "RestError")
	})
	w.certificates(t, "delete", resourceGroup, read.ETag, serviceName, "owner").gives(nil)
	w.certificates(t, "get", "owner", resourceGroup, serviceName).fails(404, "RestError")
}
