package service

import "testing"

func TestService(t *testing.T) {
	w := newWorld(t)
	for _, part := range []struct {
		name string
		test func(*world)
	}{
		{"an enrollment from its making to its end", anEnrollmentFromItsMakingToItsEnd},
		{"a group has nothing of one device", aGroupHasNothingOfOneDevice},
		{"entity tags of a write", entityTagsOfAWrite},
		{"get, change, put keeps secrets", getChangePutKeepsSecrets},
		{"one key left out stays", oneKeyLeftOutStays},
		{"certificates in every spelling", certificatesInEverySpelling},
		{"a certificate that stands alone is the primary one", aCertificateThatStandsAloneIsThePrimaryOne},
		{"what clients add to a twin is dropped", whatClientsAddToATwinIsDropped},
		{"hubs of an enrollment", hubsOfAnEnrollment},
		{"allocation by place and by webhook", allocationByPlaceAndByWebhook},
		{"reading secrets is on record", readingSecretsIsOnRecord},
		{"registration records", registrationRecords},
		{"bulk", bulkCalls},
		{"bulk of groups", bulkOfGroups},
		{"pages go by key", pagesGoByKey},
		{"queries with conditions", queriesWithConditions},
		{"records of a group", recordsOfAGroup},
		{"every call needs its right", everyCallNeedsItsRight},
		{"a device's token opens nothing", aDevicesTokenOpensNothing},
		{"tokens", tokens},
		{"a rolled key is refused at once", aRolledKeyIsRefusedAtOnce},
	} {
		w.run(part.name, part.test)
	}
}
