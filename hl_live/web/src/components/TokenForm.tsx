import { keepToken } from '../token'

/** Asks for a token, and goes on with it. */
export function TokenForm({ onToken }: { onToken: () => void }) {
  return (
    <form
      className="retry"
      onSubmit={(event) => {
        event.preventDefault()
        const token = new FormData(event.currentTarget).get('token')
        if (typeof token !== 'string' || token.trim() === '') return
        keepToken(token)
        onToken()
      }}
    >
      <label>
        Token <input name="token" type="password" autoComplete="off" required autoFocus />
      </label>
      <button type="submit">Show the house</button>
    </form>
  )
}
