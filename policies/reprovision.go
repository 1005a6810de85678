package policies

// ReprovisionPolicy says what happens to a device that registers again (contract §6.5).
// The zero value is Azure's "never".
type ReprovisionPolicy struct {
	UpdateHubAssignment bool // allocation is evaluated again
	MigrateDeviceData   bool // the twin survives; without it the device starts afresh
}

// DefaultReprovisionPolicy is that of an entry which names none: re-provision and migrate.
func DefaultReprovisionPolicy() ReprovisionPolicy {
	return ReprovisionPolicy{UpdateHubAssignment: true, MigrateDeviceData: true}
}

// Substatuses of an assigned registration, as on the wire (contract §2.2).
const (
	InitialAssignment                = "initialAssignment"
	DeviceDataMigrated               = "deviceDataMigrated"
	DeviceDataReset                  = "deviceDataReset"
	ReprovisionedToInitialAssignment = "reprovisionedToInitialAssignment"
)

// TwinAct is what is to be done with a device's twin.
type TwinAct uint8

// The acts. TwinInitial and TwinReset both write the enrollment's initial twin: the
// first where there was none, the second over, or instead of, the one that was.
const (
	TwinInitial TwinAct = iota
	TwinKeep
	TwinMigrate // from the current hub to the new one
	TwinReset
)

// Move is where a registering device goes. Whatever the move, the credential it has
// just presented becomes the one its hub knows (scenarios X5).
type Move struct {
	Hub       string
	Substatus string
	Twin      TwinAct
}

// Decide is the move of a device that lives on the hub current ("" = on none: its
// first time) and for which allocation chose the hub allocated. A policy without
// UpdateHubAssignment keeps a device where it is, and allocated may then be "": a
// caller need not allocate, nor fail because that failed.
//
// On an unchanged hub, resetting still resets (scenarios X4).
func (p ReprovisionPolicy) Decide(current, allocated string) Move {
	switch {
	case current == "":
		return Move{allocated, InitialAssignment, TwinInitial}
	case !p.UpdateHubAssignment:
		return Move{current, ReprovisionedToInitialAssignment, TwinKeep}
	case sameName(current, allocated) && p.MigrateDeviceData:
		return Move{current, ReprovisionedToInitialAssignment, TwinKeep}
	case sameName(current, allocated):
		return Move{current, DeviceDataReset, TwinReset}
	case p.MigrateDeviceData:
		return Move{allocated, DeviceDataMigrated, TwinMigrate}
	default:
		return Move{allocated, DeviceDataReset, TwinReset}
	}
}
