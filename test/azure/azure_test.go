package azure_test

import "testing"

func TestAzuresOwnSDKs(t *testing.T) {
	w := newWorld(t)
	t.Run("devices register", func(t *testing.T) {
		f := w.furnish(t)
		for _, transport := range transports {
			t.Run(transport, func(t *testing.T) { w.register(t, f, transport) })
		}
	})
	t.Run("devices with a TPM register", w.registerTPMs)
	t.Run("the service client", func(t *testing.T) {
		t.Run("individual enrollments", func(t *testing.T) { w.manageEntries(t, individuals) })
		t.Run("groups", func(t *testing.T) { w.manageEntries(t, groups) })
		t.Run("certificates", w.manageCertificatesOfEntries)
		t.Run("in bulk", w.manageInBulk)
		t.Run("registrations", w.manageRegistrations)
		t.Run("an operator's token", w.manageByToken)
	})
	t.Run("the registry client of the hub", w.manageHub)
	t.Run("the management client", w.manageCertificates)
	t.Run("the management client for Go", func(t *testing.T) {
		w.newARMGo(t).manage(t.Context(), newFactory(t, powerShell))
	})
	t.Run("lab 5 over HTTPS", func(t *testing.T) { w.lab5(t, "https") })
	t.Run("lab 5 over MQTT", func(t *testing.T) { w.lab5(t, "mqtt") })
	t.Run("lab 5, a new certificate over HTTPS", func(t *testing.T) { w.roll(t, "https") })
	t.Run("lab 5, a new certificate over MQTT", func(t *testing.T) { w.roll(t, "mqtt") })
	t.Run("lab 6 over HTTPS, certificates as certGen makes them", func(t *testing.T) { w.lab6(t, "https", certGen) })
	t.Run("lab 6 over MQTT, certificates as PowerShell makes them", func(t *testing.T) { w.lab6(t, "mqtt", powerShell) })
	t.Run("lab 6, groups above each other over HTTPS", func(t *testing.T) { w.nearest(t, "https") })
	t.Run("lab 6, groups above each other over MQTT", func(t *testing.T) { w.nearest(t, "mqtt") })
	if t.Failed() {
		return // the page would say too little
	}
	t.Run("docs/compatibility.md says what was seen", func(t *testing.T) { checkPage(t, w.seen) })
}
