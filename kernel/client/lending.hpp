// Ids on their way between nodes: who has lent them to whom.
#pragma once

#include "client.hpp"

namespace ray {

// As it is known here, or made: another node's is awaited, one of this node's that is gone has failed.
inline u32 Client::object_of(Transaction& t, const IdRef& ref) {
  if (u32 known = object::find(m(), ref.id.data())) return known;
  if (ref.owner) must_be_peer(ref.owner);
  u32 index = object::index_of(ref.id.data());
  if (index >= ACTOR_INDEX) return mailbox::refer(t, ref.id.data(), index == SERVED_INDEX ? NIL : ref.owner);
  u32 o = object::create(t, ref.id.data(), NIL, NIL);
  m().object(o).origin = ref.owner;
  if (ref.owner) return o;
  task::SystemData d{i32(SystemFailure::object_lost), 0, 0, 0, {}};
  memcpy(d.function_id, ref.id.data(), ID_BYTES);
  object::seal(t, o, Value{reinterpret_cast<const u8*>(&d), sizeof d, NIL, FORMAT_SYSTEM});
  return o;
}

// Held for this process; counted once more.
inline void Client::hold_all(std::span<const u32> list, Transaction& t, Fresh& fresh) {
  for (u32 o : list) {
    bool has = owns(o, m().object(o).serial) ||
               std::any_of(fresh.begin(), fresh.end(), [&](const auto& pair) { return pair.first == o; });
    if (!has) fresh.emplace_back(o, object::hold(t, o, process_));
  }
}

inline void Client::adopt_all(std::span<const u32> list, const Fresh& fresh) {
  for (auto [o, ref] : fresh) adopt(o, ref), m().local(o).count = 0;
  for (u32 o : list) add_local(o);
}

// The objects, held for this process; with a `peer`, noted as lent by it, once more each.
inline std::vector<u32> Client::take_in(std::span<const IdRef> refs, u32 peer) {
  must_be_open();
  std::vector<u32> all;
  for (size_t k = 0; k < refs.size(); k += AT_ONCE) {
    std::vector<u32> piece;
    Fresh fresh;
    Transaction t(m(), thread());
    if (peer) must_be_peer(peer);
    for (const IdRef& ref : refs.subspan(k, std::min<size_t>(AT_ONCE, refs.size() - k))) {
      piece.push_back(object_of(t, ref));
      if (peer) loan::note(t, piece.back(), peer);
    }
    hold_all(piece, t, fresh);
    t.commit();
    adopt_all(piece, fresh);
    all.insert(all.end(), piece.begin(), piece.end());
  }
  return all;
}

inline void Client::note(u32 peer, std::span<const IdRef> refs) {
  for (u32 o : take_in(refs, peer)) drop_local(o);
  flush_drops();
}

inline u32 Client::owner(u32 o) {
  Transaction t(m(), thread());
  u32 peer = owner_of(m().object(o));
  t.commit();
  return peer;
}

inline void Client::lend(u32 peer, std::span<const u32> list) {
  must_be_open();
  for (size_t k = 0; k < list.size(); k += AT_ONCE) {
    Transaction t(m(), thread());
    must_be_peer(peer);
    for (u32 o : list.subspan(k, std::min<size_t>(AT_ONCE, list.size() - k)))
      if (owner_of(m().object(o)) != peer) loan::lend(t, o, peer);
    t.commit();
  }
}

inline std::vector<IdRef> Client::lend_nested(u32 peer, u32 o) {
  if (!ready(o)) throw KernelError("this object has no value yet");
  std::vector<u32> contained;
  std::vector<IdRef> refs;
  for (u32 e = m().object(value_of(o)).nested; e; e = m().edge(e).next) contained.push_back(m().edge(e).object);
  lend(peer, contained);
  for (u32 each : contained) refs.push_back(ref_of(each));
  return refs;
}

inline void Client::take_back(u32 peer, std::span<const IdTimes> returned) {
  must_be_open();
  for (size_t k = 0; k < returned.size(); k += PIECE) {
    Transaction t(m(), thread());
    for (const auto& [id, times] : returned.subspan(k, std::min<size_t>(PIECE, returned.size() - k)))
      if (u32 o = object::find(m(), id.data())) loan::take_back(t, o, peer, times);
    t.commit();
  }
  drain();
}

// What `count` says of the loans of a peer, where it is not 0.
template <typename Count>
inline std::vector<IdTimes> Client::loans_where(u32 peer, Count count) {
  std::vector<IdTimes> out;
  walk(h_.loans, [&](Transaction&, u32 l) {
    const Loan& loan = m().loan(l);
    u32 times = loan.peer == peer ? count(loan) : 0;
    if (times) out.emplace_back(to_id(m().object(loan.object).id), times);
    return 0u;
  });
  return out;
}

inline std::vector<IdTimes> Client::notes(u32 peer) {
  return loans_where(peer, [](const Loan& loan) { return loan.noted; });
}

inline std::vector<IdTimes> Client::loans(u32 peer) {
  return loans_where(peer, [](const Loan& loan) { return loan.lent; });
}

// Of those with a live reference, whose own loan the caller has from elsewhere; returns what is to be given back.
inline std::vector<IdTimes> Client::forget_notes(u32 peer, std::span<const ObjectIdBytes> ids) {
  must_be_open();
  std::vector<IdTimes> out;
  for (size_t k = 0; k < ids.size(); k += PIECE) {
    Transaction t(m(), thread());
    for (const ObjectIdBytes& id : ids.subspan(k, std::min<size_t>(PIECE, ids.size() - k))) {
      u32 o = object::find(m(), id.data());
      u32 l = o ? loan::find(m(), o, peer) : NIL;
      if (u32 times = l ? loan::forget(t, l) : 0) out.emplace_back(id, times);
    }
    t.commit();
  }
  return out;
}

// What was lent becomes what the peer says it has noted.  Results for their owner are another matter: these are
// returned one by one.
inline void Client::match_loans(u32 peer, std::span<const IdTimes> noted) {
  must_be_open();
  std::map<ObjectIdBytes, u32> times(noted.begin(), noted.end());
  walk(h_.loans, [&](Transaction& t, u32 l) {
    const Loan& loan = m().loan(l);
    if (loan.peer != peer || !loan.lent || owner_of(m().object(loan.object)) == peer) return 0u;
    auto found = times.find(to_id(m().object(loan.object).id));
    u32 right = found == times.end() ? 0 : found->second;
    if (loan.lent == right) return 0u;
    loan::set_lent(t, l, right);
    return 1u;
  });
  drain();
}

}  // namespace ray
