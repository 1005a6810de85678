package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/passmuster/muster/policies"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/rotation"
	"github.com/passmuster/muster/verify"
)

// CampaignSettings are what an operator says of a campaign.
type CampaignSettings struct {
	Name          string            `json:"name" doc:"1 to 64 letters, digits, dots, dashes and underscores. Never used again."`
	Act           string            `json:"act" enum:"renew,reprovision,retire,delete,quarantine" doc:"What its devices are told: to get a new certificate, or to register again. Or what is done to them: they are taken out of service or quarantined (scope security), or their records are deleted (scope enroll); that is planned first, and carried out when the campaign is resumed."`
	Select        campaignSelection `json:"select" doc:"Which devices: those that every part fits."`
	DeleteRecords bool              `json:"deleteRecords,omitempty" doc:"Of retire: delete the registrations, too."`
	FromHub       bool              `json:"fromHub,omitempty" doc:"Of delete: remove the devices from the built-in hub, too. Hubs that live elsewhere are told to remove them anyway."`
	Quarantine    *QuarantineOrder  `json:"quarantine,omitempty" doc:"Of quarantine: where the devices are kept, and why."`
	ExpectDevices int               `json:"expectDevices,omitempty" doc:"Pause before anybody is told when more devices were found."`
	Canary        float64           `json:"canary,omitempty" doc:"The share of all devices in the first wave, at most 0.5."`
	CanaryDevices int               `json:"canaryDevices,omitempty" doc:"Or their number."`
	Waves         int               `json:"waves,omitempty" doc:"How many equal waves follow; 1 unless given."`
	WaveSizes     []int             `json:"waveSizes,omitempty" doc:"Or how many devices are in each; the last takes who is left."`
	WaveAfter     float64           `json:"waveAfter,omitempty" doc:"The share of a wave that must have been seen before the next begins; 0.9 unless given."`
	Windows       []campaignWindow  `json:"windows,omitempty" doc:"When devices are told; always unless given."`
	MaxPerHour    int               `json:"maxPerHour,omitempty" doc:"How many are told in one hour of the clock, at most."`
	Jitter        string            `json:"jitter,omitempty" doc:"Over what time devices told together are spread, ISO 8601, at most 7 days." example:"PT30M"`
	Patience      string            `json:"patience,omitempty" doc:"How long a device is waited for, ISO 8601; P1D unless given." example:"P1D"`
	MaxErrorRate  float64           `json:"maxErrorRate,omitempty" doc:"The share of failures that pauses the campaign; 0.1 unless given, 1 for none."`
	MinSample     int               `json:"minSample,omitempty" doc:"How many devices must have come or failed for that; 10 unless given."`
}

type campaignSelection struct {
	Everything    bool       `json:"everything,omitempty" doc:"All devices; nothing else is given then."`
	Group         string     `json:"group,omitempty" maxLength:"128" doc:"Devices that this group admits."`
	Enrollment    string     `json:"enrollment,omitempty" maxLength:"128" doc:"The device of this individual enrollment."`
	Profile       string     `json:"profile,omitempty" maxLength:"64" doc:"Devices whose entry has this issuing profile."`
	Hub           string     `json:"hub,omitempty" maxLength:"253" doc:"Devices on this hub."`
	Orphaned      bool       `json:"orphaned,omitempty" doc:"Registrations whose entry was deleted."`
	Issuer        string     `json:"issuer,omitempty" maxLength:"64" doc:"Devices whose last certificate is of this issuer."`
	ExpiresBefore *time.Time `json:"expiresBefore,omitempty" doc:"Devices whose certificates all end before."`
	IDs           []string   `json:"ids,omitempty" maxItems:"1000" doc:"Devices by their registration ids."`
}

type campaignWindow struct {
	Opens  string `json:"opens" maxLength:"100" doc:"When it opens, in the five fields of crontab." example:"0 2 * * 6"`
	Length string `json:"length" doc:"How long it stays open, ISO 8601, 1 minute to 7 days." example:"PT4H"`
	Zone   string `json:"zone,omitempty" maxLength:"64" doc:"On the clocks of this time zone of the IANA database; UTC unless given." example:"Europe/Berlin"`
}

// campaign is one on record. What is below its ETag is in the answer of one alone.
type campaign struct {
	CampaignSettings
	State   string     `json:"state" enum:"gathering,running,paused,aborted,done"`
	Reason  string     `json:"reason,omitempty" doc:"Why it is paused or aborted: a rule word, or what an operator said."`
	Devices int64      `json:"devices" doc:"In the campaign; grows while it gathers."`
	Wave    int64      `json:"wave" doc:"The one that is being told; 0 while it gathers."`
	Created *time.Time `json:"createdDateTimeUtc"`
	By      string     `json:"createdBy"`
	Updated *time.Time `json:"lastUpdatedDateTimeUtc" doc:"When its state changed last."`
	Etag    string     `json:"etag"`

	Funnel       *Funnel          `json:"funnel,omitempty"`
	Progress     []waveProgress   `json:"progress,omitempty" doc:"The funnel by wave."`
	Failures     map[string]int64 `json:"failures,omitempty" doc:"Failed devices by the rule word of why."`
	WindowOpen   *bool            `json:"windowOpen,omitempty"`
	WindowOpens  *time.Time       `json:"windowOpens,omitempty" doc:"When the next window opens, if none is open."`
	LeftThisHour *int64           `json:"leftThisHour,omitempty" doc:"How many more may be told in this hour of the clock; absent without a bound."`
	Forecast     []load           `json:"forecast,omitempty" doc:"When the devices that are due will be told, if no wave waits."`
	Beyond       int64            `json:"beyondForecast,omitempty" doc:"Devices that will be told later than the forecast looks."`
}

// Funnel counts devices by where they stand.
type Funnel struct {
	Due     int64 `json:"due"`
	Told    int64 `json:"told"`
	Staged  int64 `json:"staged" doc:"Have the new certificate."`
	Seen    int64 `json:"seen" doc:"Use it, or have registered again; of quarantine: it is done."`
	Retired int64 `json:"retired" doc:"Their old one has left its slot; of retire and delete: it is done."`
	Failed  int64 `json:"failed"`
	Gone    int64 `json:"gone" doc:"Their registration was deleted."`
}

type waveProgress struct {
	Wave    int64 `json:"wave"`
	Devices int64 `json:"devices" doc:"That it takes."`
	Funnel
}

type load struct {
	Hour    *time.Time `json:"hour"`
	Devices int64      `json:"devices"`
}

type campaignDevice struct {
	RegistrationID string     `json:"registrationId"`
	Wave           int64      `json:"wave,omitempty" doc:"Absent until it is its turn."`
	State          string     `json:"state" enum:"due,told,staged,seen,retired,failed,gone"`
	Reason         string     `json:"reason,omitempty" doc:"The rule word of why it failed."`
	Certificate    string     `json:"certificate,omitempty" doc:"SHA-256 of the one it had when the campaign began."`
	ToldAt         *time.Time `json:"toldAt,omitempty"`
	Updated        *time.Time `json:"lastUpdatedDateTimeUtc" doc:"When its state changed last."`
	Plan           *Ending    `json:"plan,omitempty" doc:"Of retire, delete and quarantine: what was planned when it was gathered."`
}

type campaignPreview struct {
	Devices int64   `json:"devices" doc:"That the campaign would be about if it began now."`
	Whole   bool    `json:"whole" doc:"All registrations were looked at; else there are more."`
	Waves   []int64 `json:"waves" nullable:"false" doc:"How many each wave would take."`
}

// CampaignName is the name in a path.
type CampaignName struct {
	Name string `path:"name" maxLength:"64"`
}

type (
	campaignPost struct{ Body CampaignSettings }
	campaignAct  struct {
		CampaignName
		Conditions
		Body *struct {
			Reason string `json:"reason,omitempty" maxLength:"200" doc:"Why; it goes on record."`
		}
	}
	campaignDeviceList struct {
		Paging
		CampaignName
		State string `query:"state" enum:"due,told,staged,seen,retired,failed,gone"`
	}
)

func (d *door) addCampaigns() {
	const tag, one = "rotation", "/campaigns/{name}"
	add(d, route{"list-campaigns", http.MethodGet, "/campaigns", policies.ScopeRead, tag, "List campaigns", false}, d.listCampaigns)
	add(d, route{"start-campaign", http.MethodPost, "/campaigns", policies.ScopeRotate, tag, "Start a campaign: move devices now, in waves", true}, d.startCampaign)
	add(d, route{"preview-campaign", http.MethodPost, "/campaigns/preview", policies.ScopeRotate, tag, "Say how many devices a campaign would move, and start nothing", false}, d.previewCampaign)
	add(d, route{"get-campaign", http.MethodGet, one, policies.ScopeRead, tag, "Read a campaign, with its funnel and forecast", false}, d.getCampaign)
	add(d, route{"list-campaign-devices", http.MethodGet, one + "/devices", policies.ScopeRead, tag, "List the devices of a campaign", false}, d.listCampaignDevices)
	add(d, route{"get-campaign-plan", http.MethodGet, one + "/plan", policies.ScopeRead, tag, "Sum up what a campaign that retires or deletes would do", false}, d.campaignPlan)
	add(d, route{"pause-campaign", http.MethodPost, one + "/pause", policies.ScopeRotate, tag, "Tell nobody any more until the campaign is resumed", false}, d.campaignAct(d.Engine.PauseCampaign))
	add(d, route{"resume-campaign", http.MethodPost, one + "/resume", policies.ScopeRotate, tag, "Go on with a paused campaign; failures are counted anew", false}, d.resumeCampaign)
	add(d, route{"abort-campaign", http.MethodPost, one + "/abort", policies.ScopeRotate, tag, "End a campaign for good; its devices stay as they are", false}, d.campaignAct(d.Engine.AbortCampaign))
	add(d, route{"reprovision-registration", http.MethodPost, "/registrations/{id}/reprovision", policies.ScopeRotate, "registrations", "Tell a device to register again", false}, d.reprovision)
}

// policy reads the settings; the rest of what may be wrong with them the engine finds.
func (s CampaignSettings) policy() (c policies.Campaign, err error) {
	c = policies.Campaign{
		Name: s.Name, Act: policies.CampaignAct(s.Act), DeleteRecords: s.DeleteRecords, FromHub: s.FromHub, Expect: s.ExpectDevices, Canary: s.Canary, CanaryDevices: s.CanaryDevices,
		Waves: s.Waves, Sizes: s.WaveSizes, WaveAfter: s.WaveAfter, MaxPerHour: s.MaxPerHour, MaxErrorRate: s.MaxErrorRate, MinSample: s.MinSample,
		Select: policies.Selection{
			Everything: s.Select.Everything, Group: s.Select.Group, Enrollment: s.Select.Enrollment, Profile: s.Select.Profile,
			Hub: s.Select.Hub, Orphaned: s.Select.Orphaned, Issuer: s.Select.Issuer, IDs: s.Select.IDs,
		},
	}
	if q := s.Quarantine; q != nil {
		c.Quarantine = policies.Quarantining{Hub: q.Hub, Twin: q.InitialTwin, Why: q.Why}
	}
	if s.Select.ExpiresBefore != nil {
		c.Select.ExpiresBefore = s.Select.ExpiresBefore.UTC()
	}
	for i, w := range s.Windows {
		length, err := parseDuration(w.Length, fmt.Sprintf("/windows/%d/length", i))
		if err != nil {
			return c, err
		}
		c.Windows = append(c.Windows, policies.Window{Opens: w.Opens, Length: length, Zone: w.Zone})
	}
	if c.Jitter, err = optionalDuration(s.Jitter, "/jitter"); err != nil {
		return c, err
	}
	c.Patience, err = optionalDuration(s.Patience, "/patience")
	return c, err
}

func campaignOf(c provisioning.Campaign) (campaign, error) {
	out := campaign{
		CampaignSettings: CampaignSettings{
			Name: c.Name, Act: string(c.Act), DeleteRecords: c.DeleteRecords, FromHub: c.FromHub, ExpectDevices: c.Expect, Canary: c.Canary, CanaryDevices: c.CanaryDevices,
			Waves: c.Waves, WaveSizes: c.Sizes, WaveAfter: c.WaveAfter, MaxPerHour: c.MaxPerHour,
			Patience: formatDuration(c.Patience), MaxErrorRate: c.MaxErrorRate, MinSample: c.MinSample,
			Select: campaignSelection{
				Everything: c.Select.Everything, Group: c.Select.Group, Enrollment: c.Select.Enrollment, Profile: c.Select.Profile,
				Hub: c.Select.Hub, Orphaned: c.Select.Orphaned, Issuer: c.Select.Issuer, IDs: c.Select.IDs, ExpiresBefore: instant(c.Select.ExpiresBefore),
			},
		},
		State: string(c.State), Reason: c.Reason, Devices: c.Devices, Wave: c.Wave,
		Created: instant(c.Created), By: c.CreatedBy, Updated: instant(c.Updated), Etag: etag(c.Version),
	}
	if q := c.Quarantine; q.Hub != "" {
		out.Quarantine = &QuarantineOrder{Hub: q.Hub, InitialTwin: q.Twin, Why: q.Why}
	}
	if c.Jitter > 0 {
		out.Jitter = formatDuration(c.Jitter)
	}
	for _, w := range c.Windows {
		out.Windows = append(out.Windows, campaignWindow{Opens: w.Opens, Length: formatDuration(w.Length), Zone: w.Zone})
	}
	return out, nil
}

func (f *Funnel) add(state provisioning.DeviceState, n int64) {
	switch state {
	case provisioning.DeviceDue:
		f.Due += n
	case provisioning.DeviceTold:
		f.Told += n
	case provisioning.DeviceStaged:
		f.Staged += n
	case provisioning.DeviceSeen:
		f.Seen += n
	case provisioning.DeviceRetired:
		f.Retired += n
	case provisioning.DeviceFailed:
		f.Failed += n
	case provisioning.DeviceGone:
		f.Gone += n
	}
}

// reportOf adds to a campaign how far it is.
func reportOf(r provisioning.CampaignReport) (campaign, error) {
	out, err := campaignOf(r.Campaign)
	out.Funnel = &Funnel{}
	if r.Wave > 0 { // how many there are is known once all are gathered
		for i, size := range r.WaveSizes(r.Devices) {
			out.Progress = append(out.Progress, waveProgress{Wave: int64(i) + 1, Devices: size})
		}
	}
	taken := make([]int64, len(out.Progress))
	for _, n := range r.Counts {
		out.Funnel.add(n.State, n.Devices)
		if n.Wave > 0 && n.Wave <= int64(len(out.Progress)) {
			out.Progress[n.Wave-1].add(n.State, n.Devices)
			taken[n.Wave-1] += n.Devices
		}
	}
	for i := range out.Progress {
		out.Progress[i].Due = out.Progress[i].Devices - taken[i]
	}
	if len(r.Reasons) > 0 {
		out.Failures = r.Reasons
	}
	if r.State != provisioning.CampaignRunning && r.State != provisioning.CampaignGathering {
		return out, err
	}
	out.WindowOpen = &r.Open
	if !r.Open {
		out.WindowOpens = instant(r.Opens)
	}
	if r.Left >= 0 {
		out.LeftThisHour = &r.Left
	}
	for _, l := range r.Forecast {
		out.Forecast = append(out.Forecast, load{Hour: instant(l.Hour), Devices: l.Devices})
	}
	out.Beyond = r.Rest
	return out, err
}

func (d *door) listCampaigns(ctx context.Context, in *Paging) (*listed[campaign], error) {
	after, err := in.after(d.Engine, "campaigns")
	if err != nil {
		return nil, err
	}
	rows, err := d.Engine.Campaigns(ctx, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, "campaigns", func(c provisioning.Campaign) string { return c.Name }, campaignOf)
}

func (d *door) startCampaign(ctx context.Context, in *campaignPost) (*written[campaign], error) {
	c, err := in.Body.policy()
	if err != nil {
		return nil, err
	}
	if err := d.mayEnd(ctx, c.Act, "POST "+prefix+"/campaigns"); err != nil {
		return nil, err
	}
	made, err := d.Engine.StartCampaign(ctx, actor(ctx), c)
	if err != nil {
		return nil, err
	}
	body, err := campaignOf(made)
	return &written[campaign]{Status: http.StatusCreated, ETag: etag(made.Version), Location: prefix + "/campaigns/" + url.PathEscape(made.Name), Body: body}, err
}

func (d *door) previewCampaign(ctx context.Context, in *campaignPost) (*found[campaignPreview], error) {
	c, err := in.Body.policy()
	if err != nil {
		return nil, err
	}
	n, whole, err := d.Engine.PreviewCampaign(ctx, c)
	if err != nil {
		return nil, err
	}
	return &found[campaignPreview]{Body: campaignPreview{Devices: n, Whole: whole, Waves: append([]int64{}, c.Complete().WaveSizes(n)...)}}, nil
}

func (d *door) getCampaign(ctx context.Context, in *CampaignName) (*found[campaign], error) {
	r, err := d.Engine.Campaign(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	body, err := reportOf(r)
	return &found[campaign]{ETag: etag(r.Version), Body: body}, err
}

// campaignAct is a route that moves a campaign.
func (d *door) campaignAct(act func(ctx context.Context, actor, name, why string, pre provisioning.Precondition) (provisioning.Campaign, error)) func(context.Context, *campaignAct) (*found[campaign], error) {
	return func(ctx context.Context, in *campaignAct) (*found[campaign], error) {
		pre, err := in.precondition()
		if err != nil {
			return nil, err
		}
		why := ""
		if in.Body != nil {
			why = in.Body.Reason
		}
		c, err := act(ctx, actor(ctx), in.Name, why, pre)
		if err != nil {
			return nil, err
		}
		body, err := campaignOf(c)
		return &found[campaign]{ETag: etag(c.Version), Body: body}, err
	}
}

// resumeCampaign asks whoever lets a plan be carried out for the scope that starting it asks for.
func (d *door) resumeCampaign(ctx context.Context, in *campaignAct) (*found[campaign], error) {
	r, err := d.Engine.Campaign(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := d.mayEnd(ctx, r.Act, "POST "+prefix+"/campaigns/"+r.Name+"/resume"); err != nil {
		return nil, err
	}
	return d.campaignAct(d.Engine.ResumeCampaign)(ctx, in)
}

// mayEnd asks for the scope of what a campaign ends.
func (d *door) mayEnd(ctx context.Context, act policies.CampaignAct, request string) error {
	switch act {
	case policies.ActRetire, policies.ActQuarantine:
		return d.needs(ctx, policies.ScopeSecurity, request)
	case policies.ActDelete:
		return d.needs(ctx, policies.ScopeEnroll, request)
	}
	return nil
}

// campaignDeviceKey is where a device stands in the list.
func campaignDeviceKey(d provisioning.CampaignDevice) string {
	return strconv.FormatInt(d.Wave, 10) + " " + strconv.FormatInt(d.Place, 10) + " " + d.ID.String()
}

func campaignDeviceOf(d provisioning.CampaignDevice) (campaignDevice, error) {
	out := campaignDevice{RegistrationID: d.ID.String(), Wave: d.Wave, State: string(d.State), Reason: d.Reason, ToldAt: instant(d.ToldAt), Updated: instant(d.Updated)}
	if d.Ref != (rotation.Ref{}) {
		out.Certificate = verify.Thumbprint(d.Ref).String()
	}
	if planned := endingOf(d.Plan); d.Plan.Entry != "" || d.Plan.Hub != "" || len(d.Plan.Open) > 0 {
		out.Plan = &planned
	}
	return out, nil
}

func (d *door) listCampaignDevices(ctx context.Context, in *campaignDeviceList) (*listed[campaignDevice], error) {
	list := "campaigns " + in.Name + " " + in.State
	f := provisioning.CampaignDeviceFilter{Campaign: in.Name, State: provisioning.DeviceState(in.State), Limit: in.Limit + 1}
	after, err := in.after(d.Engine, list)
	if err != nil {
		return nil, err
	}
	if after != "" {
		var id string
		if n, err := fmt.Sscanf(after, "%d %d %s", &f.AfterWave, &f.AfterPlace, &id); n != 3 || err != nil {
			return nil, badCursor()
		}
		if f.After, err = verify.ParseRegistrationID(id); err != nil {
			return nil, badCursor()
		}
	}
	rows, err := d.Engine.CampaignDevices(ctx, f)
	if err != nil {
		return nil, err
	}
	return pageOf(d.Engine, rows, in.Limit, list, campaignDeviceKey, campaignDeviceOf)
}

func (d *door) reprovision(ctx context.Context, in *EntryID) (*found[registration], error) {
	id, err := verify.ParseRegistrationID(in.ID)
	if err != nil {
		return nil, err
	}
	reg, err := d.Engine.Reprovision(ctx, actor(ctx), id)
	if err != nil {
		return nil, err
	}
	body, err := registrationOf(reg)
	return &found[registration]{ETag: etag(reg.Version), Body: body}, err
}
