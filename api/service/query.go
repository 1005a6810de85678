package service

import (
	"context"
	"maps"

	"github.com/passmuster/muster/api/internal/azure"
	"github.com/passmuster/muster/api/internal/query"
	"github.com/passmuster/muster/provisioning"
	"github.com/passmuster/muster/verify"
)

// query lists enrollments or groups (§4.5), without the state of devices.
func (e entries) query(k call) error {
	q, err := query.Read(k.c.Request, e.source, "")
	if err != nil {
		return err
	}
	return answerPage(k, q, query.Listing[provisioning.Enrollment]{
		Name: e.source,
		Item: e.item,
		Read: func(ctx context.Context, after verify.RegistrationID, limit int) ([]provisioning.Enrollment, error) {
			return k.engine.Enrollments(ctx, provisioning.EnrollmentFilter{Kind: e.kind, After: after, Limit: limit})
		},
		ID:   func(en provisioning.Enrollment) verify.RegistrationID { return en.ID },
		View: func(en provisioning.Enrollment) (any, error) { return azure.EnrollmentOf(en) },
	})
}

// queryRecords lists the records made through one group (§4.4). A body is not needed.
func queryRecords(k call) error {
	o, err := groups.owner(k.c.Param("id"))
	if err != nil {
		return err
	}
	q, err := query.Read(k.c.Request, "", "*")
	if err != nil {
		return err
	}
	if _, err := k.engine.Enrollment(k.ctx(), o); err != nil {
		return err
	}
	return answerPage(k, q, query.Listing[provisioning.Registration]{
		Name: "registrations|" + o.ID.String(),
		Item: "DeviceRegistration",
		Read: func(ctx context.Context, after verify.RegistrationID, limit int) ([]provisioning.Registration, error) {
			return k.engine.Registrations(ctx, provisioning.RegistrationFilter{Owner: o, After: after, Limit: limit})
		},
		ID:   func(r provisioning.Registration) verify.RegistrationID { return r.ID },
		View: func(r provisioning.Registration) (any, error) { return azure.RecordOf(r), nil },
	})
}

func answerPage[R any](k call, q query.Query, l query.Listing[R]) error {
	page, err := query.Answer(k.ctx(), k.engine, q, l)
	if err != nil {
		return err
	}
	maps.Copy(k.c.Writer.Header(), page.Header)
	k.write(page.Body)
	return nil
}
