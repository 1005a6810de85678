package policies

import "testing"

func TestReprovision(t *testing.T) {
	const old, next = "a.example.net", "b.example.net"
	migrate := DefaultReprovisionPolicy()
	reset := ReprovisionPolicy{UpdateHubAssignment: true}
	never := ReprovisionPolicy{}
	neverEither := ReprovisionPolicy{MigrateDeviceData: true} // the second is ignored

	for name, c := range map[string]struct {
		policy             ReprovisionPolicy
		current, allocated string
		want               Move
	}{
		"first time, migrate":                    {migrate, "", next, Move{next, InitialAssignment, TwinInitial}},
		"first time, reset":                      {reset, "", next, Move{next, InitialAssignment, TwinInitial}},
		"first time, never":                      {never, "", next, Move{next, InitialAssignment, TwinInitial}},
		"another hub, migrate (G3)":              {migrate, old, next, Move{next, DeviceDataMigrated, TwinMigrate}},
		"another hub, reset (G4)":                {reset, old, next, Move{next, DeviceDataReset, TwinReset}},
		"another hub, never (G5)":                {never, old, next, Move{old, ReprovisionedToInitialAssignment, TwinKeep}},
		"another hub, never, with a migrate set": {neverEither, old, next, Move{old, ReprovisionedToInitialAssignment, TwinKeep}},
		"no allocation at all, never":            {never, old, "", Move{old, ReprovisionedToInitialAssignment, TwinKeep}},
		"same hub, migrate (G6, X4)":             {migrate, old, old, Move{old, ReprovisionedToInitialAssignment, TwinKeep}},
		"same hub, reset (X4)":                   {reset, old, old, Move{old, DeviceDataReset, TwinReset}},
		"same hub, never":                        {never, old, old, Move{old, ReprovisionedToInitialAssignment, TwinKeep}},
		"same hub spelled otherwise":             {migrate, old, "A.example.net", Move{old, ReprovisionedToInitialAssignment, TwinKeep}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.policy.Decide(c.current, c.allocated); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}
