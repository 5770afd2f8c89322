package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/signin"
	"github.com/postern-db/postern/internal/store"
)

// addUser creates a user whose roles exist, with a password or an invitation.
func (s *Server) addUser(ctx context.Context, who caller, in api.AddUserRequest) (api.InvitationResponse, error) {
	var none api.InvitationResponse
	user := &resource.User{
		Kind: resource.KindUser, Version: "v2", Metadata: resource.Metadata{Name: in.Name},
		Spec: resource.UserSpec{Roles: in.Roles, Traits: in.Traits},
	}
	if err := resource.Validate(user); err != nil {
		return none, err
	}
	if err := s.rolesExist(ctx, in.Roles); err != nil {
		return none, err
	}
	current, err := s.revision(ctx, resource.KindUser, in.Name)
	if err != nil {
		return none, err
	}
	if current != 0 {
		return none, fault.Newf(fault.Conflict, "user %q already exists", in.Name).
			WithHint("give it a new password with: postern ctl users reset " + in.Name)
	}
	value, err := json.Marshal(user)
	if err != nil {
		return none, fmt.Errorf("encode user %s: %w", in.Name, err)
	}
	// The credential first: a crash in between leaves one that belongs to nobody and
	// cannot log in, instead of a user without a way in.
	credential, err := s.credential(ctx, who, in.Name, in.Password, s.signin.Invite)
	if err != nil {
		return none, err
	}
	key := resourceKey(resource.KindUser, in.Name)
	txn := store.Txn{Conds: []store.Cond{{Key: key}}, Puts: []store.Put{{Key: key, Value: value}}}
	return credential, s.commit(ctx, txn, s.change(who, resource.KindUser, in.Name, 0))
}

// resetUser replaces a user's password, or takes it away and makes an invitation.
func (s *Server) resetUser(ctx context.Context, who caller, in api.ResetUserRequest) (api.InvitationResponse, error) {
	current, err := s.revision(ctx, resource.KindUser, in.Name)
	if err != nil {
		return api.InvitationResponse{}, err
	}
	if current == 0 {
		return api.InvitationResponse{}, fault.Newf(fault.NotFound, "user %q not found", in.Name).WithHint("list users with: postern ctl users ls")
	}
	return s.credential(ctx, who, in.Name, in.Password, s.signin.Reset)
}

// credential sets the password, or makes an invitation where there is none.
func (s *Server) credential(ctx context.Context, who caller, user, password string,
	invite func(context.Context, string, time.Duration) (signin.Token, error),
) (api.InvitationResponse, error) {
	var out api.InvitationResponse
	if password != "" {
		if err := s.cfg.Audit.Emit(ctx, audit.PasswordChange{Actor: s.actor(who), Name: user}); err != nil {
			return out, err
		}
		return out, s.signin.SetPassword(ctx, user, signin.Password(password))
	}
	expires := s.now().Add(signin.DefaultInvitation)
	if err := s.cfg.Audit.Emit(ctx, audit.InvitationCreate{Actor: s.actor(who), Name: user, Expires: audit.Time{Time: expires}}); err != nil {
		return out, err
	}
	token, err := invite(ctx, user, signin.DefaultInvitation)
	if err != nil {
		return out, err
	}
	return api.InvitationResponse{Invitation: string(token), Expires: expires}, nil
}

func (s *Server) rolesExist(ctx context.Context, roles []string) error {
	var missing []string
	for _, role := range roles {
		rev, err := s.revision(ctx, resource.KindRole, role)
		if err != nil {
			return err
		}
		if rev == 0 {
			missing = append(missing, role)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.Newf(fault.NotFound, "role not found: %s", strings.Join(missing, ", ")).
		WithHint("create it with: postern ctl create -f FILE; list roles with: postern ctl get roles")
}

const signinPrefix = "signin/"

func signinKey(user string) string { return signinPrefix + user }

// signinRecords keeps sign-in records in the store.
type signinRecords struct{ store store.Store }

func (r signinRecords) Get(ctx context.Context, user string) ([]byte, int64, error) {
	e, err := r.store.Get(ctx, signinKey(user))
	return e.Value, e.Rev, err
}

func (r signinRecords) Put(ctx context.Context, user string, record []byte, rev int64) error {
	key := signinKey(user)
	_, err := r.store.Txn(ctx, store.Txn{
		Conds: []store.Cond{{Key: key, Rev: rev}}, Puts: []store.Put{{Key: key, Value: record}},
	})
	return err
}

func (r signinRecords) Delete(ctx context.Context, user string) error {
	_, err := r.store.Txn(ctx, store.Txn{Deletes: []string{signinKey(user)}})
	return err
}
