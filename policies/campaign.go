package policies

import (
	"math"
	"time"
)

// CampaignAct is what the devices of a campaign are told to do, or what is done to them.
type CampaignAct string

// The acts. Renewing ends when the certificate a device had is retired, reprovisioning when
// the device has registered again; no certificate is issued for the latter. The others ask no
// device, and end when its hubs have confirmed.
const (
	ActRenew       CampaignAct = "renew"
	ActReprovision CampaignAct = "reprovision"
	ActRetire      CampaignAct = "retire" // devices are taken out of service
	ActDelete      CampaignAct = "delete" // registrations' records are deleted
	ActQuarantine  CampaignAct = "quarantine"
)

// Ends says that the act ends something, or moves a device whether it comes or not, and that nobody
// is told: its devices are shown first, and an operator has it carried out on those.
func (a CampaignAct) Ends() bool { return a == ActRetire || a == ActDelete || a == ActQuarantine }

// Quarantining is where devices in quarantine are kept.
type Quarantining struct {
	Hub  string
	Twin []byte // JSON; nil: that of the configuration
	Why  string
}

// Selection says which devices a campaign is about: those that every given part fits.
// Something must be given, so that nobody moves a fleet by an empty form.
type Selection struct {
	Everything bool
	Group      string // id of the group that admits the device
	Enrollment string // id of the individual enrollment that does
	Profile    string // issuing profile of that entry
	Hub        string
	Orphaned   bool   // without an owner: its entry was deleted
	Issuer     string // id of the issuer of the device's last certificate
	// ExpiresBefore takes devices whose certificates all end before.
	ExpiresBefore time.Time
	IDs           []string // registration ids, at most MaxCampaignIDs
}

// Campaign moves the devices of a selection now, in waves. Its devices are taken in an
// order that is random and fixed: the canaries first, then wave by wave.
type Campaign struct {
	Name   string // as a profile's; it is the campaign's id
	Act    CampaignAct
	Select Selection
	// DeleteRecords deletes the registrations of devices that are retired, FromHub removes the devices
	// of deleted records from the built-in hub, too.
	DeleteRecords, FromHub bool
	Quarantine             Quarantining // of ActQuarantine; else zero
	// Expect pauses the campaign before anybody is told when more devices were found; 0: any.
	Expect int

	// Canary is the share of all devices in the first wave, or CanaryDevices their number; at
	// most one of the two.
	Canary        float64
	CanaryDevices int
	// Waves is the number of equal waves after the canaries, or Sizes the devices in each; the
	// last takes who is left. Neither: one wave.
	Waves int
	Sizes []int
	// WaveAfter is the share of a wave that must have been seen before the next begins.
	WaveAfter float64

	Windows    Windows // when devices are told
	MaxPerHour int     // told in one hour of the clock; 0: no bound
	// Jitter spreads the moment at which devices told together shall come over this time.
	Jitter time.Duration
	// Patience is how long a device is waited for, counted from the moment it shall come.
	Patience time.Duration
	// MaxErrorRate pauses the campaign when, of the devices that came or were given up since it
	// was started or resumed, more than this share were given up; MinSample is how many of them
	// are needed to judge.
	MaxErrorRate float64
	MinSample    int
}

// Bounds of a campaign.
const (
	MaxCampaignIDs = 1000

	maxWaves    = 100
	maxDevices  = 1_000_000_000
	minPatience = time.Minute
	maxPatience = 366 * 24 * time.Hour
	maxSpread   = 7 * 24 * time.Hour
)

// Complete is the campaign with what was left out: one wave after the canaries, the next
// wave when 90 % were seen, a day's patience, and a stop when one in ten of at least ten
// fails.
func (c Campaign) Complete() Campaign {
	if c.Waves == 0 && len(c.Sizes) == 0 {
		c.Waves = 1
	}
	if c.WaveAfter == 0 {
		c.WaveAfter = 0.9
	}
	if c.Patience == 0 {
		c.Patience = 24 * time.Hour
	}
	if c.MaxErrorRate == 0 {
		c.MaxErrorRate = 0.1
	}
	if c.MinSample == 0 {
		c.MinSample = 10
	}
	return c
}

// Validate reports everything that is wrong with a complete campaign: one Malformed fault
// "campaign-invalid" with a field for each bad value. now is where its windows are looked for
// from.
func (c Campaign) Validate(now time.Time) error {
	var bad findings
	if !ValidName(c.Name) {
		bad.add("/name", "a campaign's name is 1 to 64 letters, digits, dots, dashes and underscores, with at least one letter or digit")
	}
	if c.Act != ActRenew && c.Act != ActReprovision && !c.Act.Ends() {
		bad.add("/act", "a campaign's act is renew, reprovision, retire, delete or quarantine")
	}
	c.checkEnd(&bad)
	c.Select.check(&bad, "/select")
	c.checkWaves(&bad)
	c.Windows.check(&bad, "/windows", now)
	outside := func(pointer string, v, least, most int, detail string) {
		if v < least || v > most {
			bad.add(pointer, detail)
		}
	}
	outside("/expectDevices", c.Expect, 0, maxDevices, "the number of devices expected is not negative")
	outside("/maxPerHour", c.MaxPerHour, 0, maxHourly, "at most 1000000 are moved in an hour")
	outside("/minSample", c.MinSample, 1, maxDevices, "errors are judged by one device at least")
	if c.Jitter < 0 || c.Jitter > maxSpread {
		bad.add("/jitter", "devices are spread over 7 days at most")
	}
	if c.Patience < minPatience || c.Patience > maxPatience {
		bad.add("/patience", "a device is waited for between 1 minute and 366 days")
	}
	if !(c.MaxErrorRate > 0 && c.MaxErrorRate <= 1) {
		bad.add("/maxErrorRate", "the share of errors that stops a campaign is above 0 and at most 1, which never does")
	}
	return bad.fault("campaign-invalid")
}

// checkEnd is about what only some acts take.
func (c Campaign) checkEnd(bad *findings) {
	if c.DeleteRecords && c.Act != ActRetire {
		bad.add("/deleteRecords", "records are deleted with devices that are retired")
	}
	if c.FromHub && c.Act != ActDelete {
		bad.add("/fromHub", "a device that is retired leaves its hub anyway; it is said of records that are deleted")
	}
	if given := c.Quarantine.Hub != "" && c.Quarantine.Why != ""; given != (c.Act == ActQuarantine) {
		bad.add("/quarantine", "a quarantine, and nothing else, has a hub and a reason")
	}
	if c.Act.Ends() && c.Select.Everything {
		bad.add("/select/everything", "not everything is ended at once: say which devices")
	}
	if c.Act.Ends() && c.Jitter != 0 {
		bad.add("/jitter", "no device is told, so none is spread")
	}
}

func (c Campaign) checkWaves(bad *findings) {
	if !(c.Canary >= 0 && c.Canary <= 0.5) {
		bad.add("/canary", "the canaries are a share between 0 and 0.5 of all devices")
	}
	if c.CanaryDevices < 0 || c.CanaryDevices > maxDevices || c.Canary != 0 && c.CanaryDevices != 0 {
		bad.add("/canaryDevices", "the canaries are a share or a number of devices, not both")
	}
	if c.Waves < 0 || c.Waves > maxWaves || c.Waves != 0 && len(c.Sizes) != 0 || len(c.Sizes) > maxWaves {
		bad.add("/waves", "there are 1 to 100 waves, by their number or by their sizes")
	}
	for _, n := range c.Sizes {
		if n < 1 || n > maxDevices {
			bad.add("/waveSizes", "a wave has one device at least")
			break
		}
	}
	if !(c.WaveAfter > 0 && c.WaveAfter <= 1) {
		bad.add("/waveAfter", "the next wave begins when a share above 0 and at most 1 of this one was seen")
	}
}

func (s Selection) check(bad *findings, at string) {
	narrowed := s.Group != "" || s.Enrollment != "" || s.Profile != "" || s.Hub != "" || s.Orphaned || s.Issuer != "" || !s.ExpiresBefore.IsZero() || len(s.IDs) > 0
	switch {
	case !narrowed && !s.Everything:
		bad.add(at, "say which devices are meant, or that all are")
	case narrowed && s.Everything:
		bad.add(at, "all devices are meant, or some: not both")
	case s.Group != "" && s.Enrollment != "":
		bad.add(at+"/enrollment", "a device is admitted by a group or by an enrollment of its own")
	case s.Orphaned && (s.Group != "" || s.Enrollment != "" || s.Profile != ""):
		bad.add(at+"/orphaned", "who has no owner is of no group, enrollment or profile")
	}
	if len(s.IDs) > MaxCampaignIDs {
		bad.add(at+"/ids", "at most 1000 devices are named one by one")
	}
}

// WaveSizes is how many of n devices each wave takes, the canaries first. No wave is empty.
func (c Campaign) WaveSizes(n int64) (sizes []int64) {
	left := n
	take := func(want int64) {
		if want = min(want, left); want > 0 {
			sizes, left = append(sizes, want), left-want
		}
	}
	if c.Canary > 0 {
		take(int64(math.Ceil(c.Canary * float64(n))))
	}
	take(int64(c.CanaryDevices))
	for _, size := range c.Sizes {
		take(int64(size))
	}
	for waves := int64(c.Waves); waves > 0; waves-- {
		take((left + waves - 1) / waves)
	}
	take(left)
	return sizes
}

// WaveDone says whether so many seen of a wave let the next one begin.
func (c Campaign) WaveDone(seen, of int64) bool {
	return float64(seen) >= c.WaveAfter*float64(of)
}

// Failing says whether so many given up beside so many that came stop the campaign.
func (c Campaign) Failing(failed, came int64) bool {
	of := failed + came
	return failed > 0 && of >= int64(c.MinSample) && float64(failed) > c.MaxErrorRate*float64(of)
}

// HourOf counts the hours of the clock since 1970.
func HourOf(now time.Time) int64 { return now.Unix() / 3600 }

// Load is how many devices are told within an hour of the clock.
type Load struct {
	Hour    time.Time
	Devices int64
}

// maxForecast is how many hours with something in them a forecast has at most.
const maxForecast = 31 * 24

// Forecast says when so many devices more will be told, if no wave has to wait for devices;
// told is how many were in this hour. It is cut off after 744 hours with devices in them: then
// rest is who is left.
func (c Campaign) Forecast(left, told int64, now time.Time) (loads []Load, rest int64) {
	for at := now; left > 0 && len(loads) < maxForecast; {
		open, next := c.Windows.Open(at)
		hour := time.Unix(HourOf(at)*3600, 0).UTC()
		switch {
		case !open && next.IsZero():
			return loads, left
		case !open && !next.Before(hour.Add(time.Hour)):
			at, told = next, 0
			continue
		}
		n := left
		if c.MaxPerHour > 0 {
			n = min(left, max(0, int64(c.MaxPerHour)-told))
		}
		if n > 0 {
			loads = append(loads, Load{Hour: hour, Devices: n})
		}
		left -= n
		at, told = hour.Add(time.Hour), 0
	}
	return loads, left
}
