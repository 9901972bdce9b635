// Ids that nodes have lent each other.
//
// Whoever sends an id to a peer has lent it to that peer, counted, until the peer returns it: this keeps the object
// alive here.  What a peer has sent is noted under it, and keeps nothing alive: a node that no longer refers to
// a foreign object returns it to whoever lent it.
//
// Invariants: one record for each object and peer that have lent something; `lent` counts as one reference,
// whatever it is; NOTED is set exactly while somebody has lent the object to this node.
#pragma once

#include "object.hpp"

namespace ray::loan {

inline u32 find(Mapping& m, u32 i, u32 peer) {
  u32 l = m.object(i).loans;
  while (l && m.loan(l).peer != peer) l = m.loan(l).next;
  return l;
}

inline u32 times_lent(Mapping& m, u32 i, u32 peer) {
  u32 l = find(m, i, peer);
  return l ? m.loan(l).lent : 0;
}

// A result of a task that this node was sent, and which its owner has not returned yet.
inline bool is_result(Mapping& m, u32 i) {
  u32 owner = owner_of(m.object(i));
  return owner && times_lent(m, i, owner);
}

// Nothing here refers to it, but that its owner has not returned it: what that one has lent of it in turn is given
// back, or the two would keep it for each other.
inline bool is_kept_for_its_owner(Mapping& m, u32 i) {
  const Object& o = m.object(i);
  return o.references == 1 && o.origin & NOTED && o.state == OBJECT_SEALED && is_result(m, i);
}

// The record, made if there is none; the caller counts something in it.
inline u32 open(Transaction& t, u32 i, u32 peer) {
  if (u32 known = find(t.m, i, peer)) return known;
  u32 l = loans(t.m).take(t);
  Loan& loan = t.m.loan(l);
  Object& o = t.m.object(i);
  t.set(loan.peer, peer);  // under the log, so that one look at all records finds those in use
  loan.object = i;
  loan.next = o.loans;
  loan.lent = loan.noted = 0;
  t.set(o.loans, l);
  return l;
}

inline void close_if_settled(Transaction& t, u32 l) {
  Loan& loan = t.m.loan(l);
  if (loan.lent || loan.noted) return;
  u32* link = &t.m.object(loan.object).loans;
  while (*link != l) link = &t.m.loan(*link).next;
  t.set(*link, loan.next);
  t.set(loan.peer, NIL);
  loans(t.m).give(t, l);
}

inline void lend(Transaction& t, u32 i, u32 peer, u32 times = 1) {
  Loan& loan = t.m.loan(open(t, i, peer));
  if (!loan.lent) object::reference(t, i);
  t.set(loan.lent, loan.lent + times);
}

// Sets how often it is lent; 0 may be its last reference.
inline void set_lent(Transaction& t, u32 l, u32 times) {
  Loan& loan = t.m.loan(l);
  u32 i = loan.object;
  bool ends = loan.lent && !times;
  if (loan.lent != times) t.set(loan.lent, times);
  close_if_settled(t, l);
  if (ends) object::unreference(t, i);
}

// What was never lent is passed over.
inline void take_back(Transaction& t, u32 i, u32 peer, u32 times) {
  u32 l = find(t.m, i, peer);
  if (l) set_lent(t, l, t.m.loan(l).lent > times ? t.m.loan(l).lent - times : 0);
}

// --- what peers have lent -------------------------------------------------------------------------------

inline void note(Transaction& t, u32 i, u32 peer) {
  Object& o = t.m.object(i);
  if (!owner_of(o)) return;  // nobody lends an object to its owner
  Loan& loan = t.m.loan(open(t, i, peer));
  t.set(loan.noted, loan.noted + 1);
  if (!(o.origin & NOTED)) t.set(o.origin, o.origin | u32(NOTED));
}

// Returns how often it had been lent by that peer.
inline u32 forget(Transaction& t, u32 l) {
  Loan& loan = t.m.loan(l);
  Object& o = t.m.object(loan.object);
  u32 times = loan.noted;
  if (!times) return 0;
  t.set(loan.noted, 0u);
  u32 other = o.loans;
  while (other && !t.m.loan(other).noted) other = t.m.loan(other).next;
  if (!other) t.set(o.origin, o.origin & ~u32(NOTED));
  close_if_settled(t, l);
  return times;
}

}  // namespace ray::loan

namespace ray {

inline void remote_object_rests(Transaction& t, u32 i) {
  if (loan::is_kept_for_its_owner(t.m, i)) news::add(t, i);
}

}  // namespace ray
