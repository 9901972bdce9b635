// Other nodes, and drivers of theirs, as this node knows them.
//
// What a peer has names it: loans, tasks that are away, objects that it owns.  Burying it is one look at each table,
// a bounded piece at a time; who dies over it is replaced by one that begins anew.
#pragma once

#include "client.hpp"

namespace ray {

// Looks at every record of a table; `visit` says how much it has changed, of PIECE in one transaction.
template <typename Visit>
inline void Client::walk(const Pool& pool, Visit visit) {
  for (u32 i = 1; i <= peek(pool.high_water);) {
    Transaction t(m(), thread());
    for (u32 n = 0, changes = 0; n < PEER_LOOK && changes < PIECE && i <= pool.high_water; ++n, ++i)
      changes += visit(t, i);
    t.commit();
  }
}

inline u32 Client::find_remote(ProcessKind kind, u32 home, const u8* id) {
  for (u32 i = 1; i <= h_.processes.high_water; ++i) {
    const Process& p = m().process(i);
    bool same = p.state != PROCESS_FREE && ProcessKind(p.kind) == kind && p.home == home;
    if (same && memcmp(p.root_id, id, ID_BYTES) == 0) return i;
  }
  return NIL;
}

// The record of a peer or guest, made if there is none.
inline u32 Client::enter_remote(ProcessKind kind, u32 home, const u8* id) {
  must_be_open();
  Transaction t(m(), thread());
  if (home) must_be_peer(home);
  u32 i = find_remote(kind, home, id);
  if (!i) i = process::enter(t, kind, 0, 0, id, home);
  else if (m().process(i).state != PROCESS_ALIVE) throw StaleHandle("this node, or its driver, has ended");
  t.commit();
  return i;
}

inline u32 Client::enter_peer(const u8* node_id) { return enter_remote(ProcessKind::peer, NIL, node_id); }

inline u32 Client::enter_guest(u32 home, const u8* root_id) {
  return m().process(enter_remote(ProcessKind::guest, home, root_id)).job;
}

inline void Client::must_be_peer(u32 peer) {
  bool is = peer && peer <= h_.processes.high_water && ProcessKind(m().process(peer).kind) == ProcessKind::peer &&
            m().process(peer).state == PROCESS_ALIVE;
  if (!is) throw StaleHandle("this node is not known, or has died");
}

inline std::vector<Remote> Client::remotes(ProcessKind kind) {
  std::vector<Remote> out;
  Transaction t(m(), thread());
  for (u32 i = 1; i <= h_.processes.high_water; ++i) {
    const Process& p = m().process(i);
    if (p.state != PROCESS_FREE && ProcessKind(p.kind) == kind) out.push_back({i, p.job, p.home, to_id(p.root_id)});
  }
  t.commit();
  return out;
}

inline std::optional<Remote> Client::job_root(u32 job) {
  std::optional<Remote> found;
  Transaction t(m(), thread());
  for (u32 i = 1; i <= h_.processes.high_water && job && !found; ++i) {
    const Process& p = m().process(i);
    if (p.state == PROCESS_ALIVE && p.job == job) found = {i, p.job, p.home, to_id(p.root_id)};
  }
  t.commit();
  return found;
}

// Its tasks end as those of any ended driver do (end_jobs).
inline void Client::bury_guest(u32 job) {
  must_be_open();
  for (const Remote& guest : remotes(ProcessKind::guest))
    if (guest.job == job) bury_record(guest.index, m().process(guest.index).serial, 0, false);
}

inline void Client::bury_peer(u32 peer) {
  must_be_open();
  {
    Transaction t(m(), thread());
    Process& p = m().process(peer);
    bool known = peer <= h_.processes.high_water && p.state != PROCESS_FREE;
    if (!known || ProcessKind(p.kind) != ProcessKind::peer) throw StaleHandle("this node is not known");
    t.set(p.state, PROCESS_DYING);
    t.commit();
  }
  for (const Remote& guest : remotes(ProcessKind::guest))
    if (guest.home == peer) bury_record(guest.index, m().process(guest.index).serial, 0, false);
  walk(h_.loans, [&](Transaction& t, u32 l) {
    if (m().loan(l).peer != peer) return 0u;
    loan::forget(t, l);
    if (m().loan(l).peer == peer) loan::set_lent(t, l, 0);
    return 1u;
  });
  for (u32 a = 1; a <= peek(h_.actors.high_water); ++a) forget_covered(a);
  for (const Away& task : tasks_away(peer)) {
    settle(task, peer);
    come_back(task, peer, true);
  }
  walk(h_.actors, [&](Transaction& t, u32 a) {
    if (m().actor(a).state != ACTOR_AWAY || m().actor(a).peer != peer) return 0u;
    mailbox::lose(t, a);
    return 1u;
  });
  drain();
  walk(h_.objects, [&](Transaction& t, u32 o) { return disown(t, o, peer); });
  drain();
  bury_record(peer, m().process(peer).serial, 0, false);
}

// An object of a dead node: what it should have given this one never comes, the rest becomes this node's own.
inline u32 Client::disown(Transaction& t, u32 i, u32 peer) {
  Object& o = m().object(i);
  if (owner_of(o) != peer || !object::is_in_use(m(), i)) return 0;
  // A result that it had this node make is at another by now, perhaps.
  u32 kept = NOTED | LISTED | (o.origin & LOCATED ? LOCATED | STORED | WANTED : 0);
  t.set(o.origin, o.origin & kept);
  if (o.state != OBJECT_PENDING || o.task || !o.references) return 1;
  task::SystemData d{i32(SystemFailure::object_lost), 0, 0, 0, {}};
  memcpy(d.function_id, o.id, ID_BYTES);
  object::seal(t, i, Value{reinterpret_cast<const u8*>(&d), sizeof d, NIL, FORMAT_SYSTEM});
  return PIECE;
}

}  // namespace ray
